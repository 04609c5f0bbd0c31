"""Are there different instructions, told apart by more than their spelling, and does each belong to its scene?"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from plait.data.tables import EpisodeRow
from plait.diagnose.doctor.case import Case, span
from plait.diagnose.doctor.entries import NOISE
from plait.diagnose.doctor.finding import Finding, skipped, some

SAME = 0.02  # standard deviations, of every entry in every frame: one demonstration
CUT = 0.9  # of the longer one, that the shorter one must have: a task may well be the first half of another
MOMENTS = 8  # frames of each episode that are compared first


def instructions(case: Case) -> Iterator[Finding]:
    """Several instructions, each in one spelling."""
    index = case.dataset.columns.values["task_index"]
    used = Counter(case.dataset.tasks[i] for i in index.tolist() if 0 <= i < len(case.dataset.tasks))
    alike = defaultdict(list)
    for sentence in used:
        alike[plain(sentence)].append(sentence)
    for same in alike.values():
        if len(same) > 1:
            shown = " and ".join(map(repr, same))
            yield Finding("warning", f"{shown} differ in case, spaces or punctuation alone; spell them the same way")
    numbers = {"instructions": len(alike)}
    if len(alike) == 1:
        said = f"every frame has the instruction {next(iter(used))!r}"
        yield Finding("warning", f"{said}: a policy learns to ignore it; record a second task if words matter", numbers)
    else:
        yield Finding("ok", f"{len(alike)} instructions", numbers)


def pairing(case: Case) -> Iterator[Finding]:
    """An episode's frames have the instruction that its row in meta/episodes names."""
    tasks, index = case.dataset.tasks, case.dataset.columns.values["task_index"]
    rows = [row for row in case.dataset.episodes if row.instructions]
    other = [row for row in rows if {tasks[i] for i in _known(index[span(row)], tasks)} - set(row.instructions)]
    if not rows:
        yield skipped("meta/episodes names no instructions")
    elif other:
        row = other[0]
        framed = next(tasks[i] for i in _known(index[span(row)], tasks) if tasks[i] not in row.instructions)
        said = f"{framed!r} by task_index, {row.instructions[0]!r} by meta/episodes"
        rule = f"{len(other)} of {len(rows)} episodes have two instructions"
        sentence = f"{rule}: episode {row.index} has {said}; find out which is right and correct the other"
        yield Finding("error", sentence, {"episodes": len(other)})


def repeated(case: Case) -> Iterator[Finding]:
    """No demonstration stands there twice under different instructions (a little noise or another end hides none)."""
    told = {row.index: _told(case, row) for row in case.sound}
    words = [plain(told[row.index]) for row in case.sound]
    same: list[set[int]] = []  # episodes of one demonstration
    for one, other in _alike(case):
        if words[one] != words[other]:
            pair = {case.sound[one].index, case.sound[other].index}
            joined = [each for each in same if each & pair]
            same = [each for each in same if not each & pair] + [pair.union(*joined)]
    found = sorted(sorted(each) for each in same)
    if found:
        one = found[0][0]
        other = next(i for i in found[0] if plain(told[i]) != plain(told[one]))
        which = some([" and ".join(map(str, rows)) for rows in found])
        rule = "demonstrations stand" if len(found) > 1 else "demonstration stands"
        said = f"several times, with the same states and actions under different instructions (episodes {which})"
        shown = f"episode {one} has {told[one]!r}, episode {other} {told[other]!r}"
        fix = "find out which is right and drop the others"
        yield Finding("error", f"{len(found)} {rule} there {said}: {shown}; {fix}", {"episodes": found})


def _alike(case: Case) -> Iterator[tuple[int, int]]:
    """Places of two sound episodes of which one is as the other, or as its beginning, within ``SAME``."""
    episodes = _standardised(case)
    if not episodes[0].shape[1]:
        return
    lengths = np.array([len(each) for each in episodes])
    # of every episode the same moments, in the first half of most, so that few pairs are compared as a whole
    moments = np.linspace(0, np.median(lengths) // 2, MOMENTS).astype(int)
    sketches = np.stack([each[np.minimum(moments, len(each) - 1)].ravel() for each in episodes])
    column = min(range(sketches.shape[1]), key=lambda i: _reach(np.sort(sketches[:, i])).sum())
    order = np.argsort(sketches[:, column])
    for place, reach in enumerate(_reach(sketches[order, column])):
        one, others = order[place], order[place + 1 : place + 1 + reach]
        near = np.abs(sketches[others] - sketches[one]).max(1, initial=0) <= SAME
        cut = np.minimum(lengths[others], lengths[one]) >= CUT * np.maximum(lengths[others], lengths[one])
        for other in others[near & cut]:
            shorter = min(lengths[one], lengths[other])
            if np.abs(episodes[one][:shorter] - episodes[other][:shorter]).max() <= SAME:
                yield int(one), int(other)


def _standardised(case: Case) -> list[np.ndarray]:
    """Of each sound episode, ``[n, d]``: the entries of state and action that move, in standard deviations.

    What only trembles is left out, unless that is most of the entries.
    """
    numbers = [np.hstack([case.state[span(row)], case.action[span(row)]]) for row in case.sound]
    wide = np.concatenate(numbers).std(0)
    steps = np.concatenate([np.diff(each, axis=0) for each in numbers])
    trembles = np.sqrt((steps**2).sum(0) / max(len(steps), 1)) >= NOISE * wide
    moves = (wide > 0) & ~trembles
    moves = moves if 2 * moves.sum() >= (wide > 0).sum() else wide > 0
    return [each[:, moves] / wide[moves] for each in numbers]


def _reach(values: np.ndarray) -> np.ndarray:
    """Of each of ascending values, how many of those after it are within ``SAME``."""
    return np.searchsorted(values, values + SAME, "right") - np.arange(len(values)) - 1


def scene(case: Case) -> Iterator[Finding]:
    """The recorded scene asks for what the instruction says."""
    if case.no_scenes:
        yield skipped(case.no_scenes)
        return
    asked = [(start.row, str(info.get("task", ""))) for start, _, info in case.starts]
    asked = [(row, task) for row, task in asked if task]
    wrong = [(row, task) for row, task in asked if plain(task) not in map(plain, row.instructions)]
    numbers = {"scenes": len(asked), "mispaired": len(wrong)}
    if not asked:
        yield skipped("the environment does not say what its scenes ask for (info['task'])")
    elif wrong:
        row, task = wrong[0]
        said = f"episode {row.index} has {row.instructions[0]!r}, its scene asks {task!r}"
        which = some([row.index for row, _ in wrong])
        rule = f"{len(wrong)} of {len(asked)} scenes ask for something else than the instruction (episodes {which})"
        yield Finding("error", f"{rule}: {said}; pair instructions and episodes again", numbers)
    else:
        yield Finding("ok", f"{len(asked)} of {len(asked)} scenes ask for what the instruction says", numbers)


def plain(sentence: str) -> str:
    """Without case, punctuation and superfluous spaces."""
    return " ".join(re.sub(r"[\W_]+", " ", sentence.casefold()).split())


def _told(case: Case, row: EpisodeRow) -> str:
    """The instruction of an episode's frames."""
    tasks = case.dataset.tasks
    return " / ".join(tasks[i] for i in _known(case.dataset.columns.values["task_index"][span(row)], tasks))


def _known(index: np.ndarray, tasks: list[str]) -> list[int]:
    return [i for i in np.unique(index).tolist() if 0 <= i < len(tasks)]
