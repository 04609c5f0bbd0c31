"""Are there different instructions, told apart by more than their spelling, and does each belong to its scene?"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import sha256

import numpy as np

from plait.data.tables import EpisodeRow
from plait.diagnose.doctor.case import Case, span
from plait.diagnose.doctor.finding import Finding, skipped, some


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
    """No demonstration stands there twice under different instructions."""
    same = defaultdict(list)
    for row in case.sound:
        numbers = np.hstack([case.state[span(row)], case.action[span(row)]])
        same[sha256(numbers.tobytes()).digest()].append(row.index)
    told = {row.index: _told(case, row) for row in case.sound}
    found = [rows for rows in same.values() if len({plain(told[i]) for i in rows}) > 1]
    if found:
        one = found[0][0]
        other = next(i for i in found[0] if plain(told[i]) != plain(told[one]))
        which = some([" and ".join(map(str, rows)) for rows in found])
        rule = "demonstrations stand" if len(found) > 1 else "demonstration stands"
        said = f"several times, with the same states and actions under different instructions (episodes {which})"
        shown = f"episode {one} has {told[one]!r}, episode {other} {told[other]!r}"
        fix = "find out which is right and drop the others"
        yield Finding("error", f"{len(found)} {rule} there {said}: {shown}; {fix}", {"episodes": found})


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
