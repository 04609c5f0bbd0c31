"""Does it listen? The same scenes with other words: what it does then, and how much its first actions change."""

from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np

from plait import envs
from plait.diagnose import page
from plait.diagnose.modalities import follows
from plait.diagnose.response import IGNORED, MOST, Response, responses
from plait.diagnose.scenes import views
from plait.diagnose.shown import bar, count, films
from plait.diagnose.subject import Answer, Subject, Tone
from plait.evaluate.alter import Removed, Shuffled, Swapped, altering
from plait.evaluate.protocol import known_instructions
from plait.evaluate.statistics import difference, manipulated, share
from plait.spec import INSTRUCTION

QUESTION = "Does it listen?"
SCENES = 100  # whose first actions are compared, at most
MOSTLY = 50.0  # percent; what lies above it with its whole interval is what the policy does
TRIALS: dict[str, tuple[str, str, dict[str, Any]]] = {  # label, note, what is changed in the evaluation
    "exchanged": ("Instruction exchanged", "another thing is asked for", {"instructions": "exchanged"}),
    "swapped": ("Instruction of another scene", "judged by its own", {"alter": (Swapped(INSTRUCTION),)}),
    "absent": ("No instruction", "judged by what it would be", {"alter": (Removed(INSTRUCTION),)}),
    "shuffled": ("Words shuffled", "the same words in another order", {"alter": (Shuffled(),)}),
    "paraphrase": ("Paraphrased", "known words, a new sentence", {"instructions": "paraphrase"}),
}
DECIDING = {"exchanged": "another task", "swapped": "another scene"}  # whose words; the others are for contrast
FILMS = 2
Results = dict[str, dict[str, Any]]
Judged = tuple[str, Tone]


def ask(subject: Subject) -> Answer:
    """Evaluate the subject's scenes with other words, as far as the environment knows them."""
    chosen = _trials(subject)
    results = {"normal": subject.normal()}
    for name in chosen:
        label, _, changes = TRIALS[name]
        given: dict[str, Any] = {"videos": FILMS} if name in DECIDING else {"contrast": True}
        results[name] = subject.evaluate(name, label.lower(), **given, **changes)
    heard, followed = heeded(subject, chosen), follows(subject).get(INSTRUCTION)
    numbers: dict[str, Any] = {name: result["aggregated"] for name, result in results.items()}
    if _tells(results):
        numbers["exchanged"] |= kept(results)
    numbers["change_of_first_actions"] = {name: asdict(response) for name, response in heard.items()}
    numbers["change_of_actions"] = None if followed is None else asdict(followed)
    text, tone = judge(numbers, heard, followed)
    parts = [page.intervals("Share of scenes; the thin line is the 95 % interval", _bars(numbers))]
    for name in filter(results.__contains__, DECIDING):
        parts += films(subject, name, results[name])
    return Answer(QUESTION, text, tone, numbers, (*parts, *_changes(heard, followed)))


def _trials(subject: Subject) -> list[str]:
    """A foreign environment cannot ask for another thing: it is told what another of its scenes is told."""
    with closing(envs.make(subject.env, **subject.env_args)) as env:
        known = known_instructions(env)
    unknown = {"swapped"} if "exchanged" in known else {"exchanged"}
    return [name for name in TRIALS if name not in unknown and (name != "paraphrase" or name in known)]


def _tells(results: Results) -> bool:
    """Whether the environment tells what was acted on, so that one sees what it was that the policy heard."""
    return "exchanged" in results and results["exchanged"]["aggregated"]["pc_named"] is not None


def kept(results: Results) -> dict[str, Any]:
    """``pc_kept``: of the scenes in which it acts on something, how often that is the same with the words exchanged."""
    pairs = zip(results["normal"]["per_episode"], results["exchanged"]["per_episode"], strict=True)
    acted = [(manipulated(one), manipulated(other)) for one, other in pairs if manipulated(one)]
    return {**share((one == other for one, other in acted), "pc_kept"), "n_kept": len(acted)}


def heeded(subject: Subject, trials: list[str]) -> dict[str, Response]:
    """How much the first actions change with the words, compared with another scene and the same words."""
    scenes = min(SCENES, subject.episodes)
    before = views(subject, scenes).observation
    every = np.ones(len(before), bool)
    chance = altering([Swapped(m) for m in subject.policy.spec.modalities if m != INSTRUCTION])(before, every)
    changed, counted = {}, {}
    for name in trials:
        changes = TRIALS[name][2]
        told = changes.get("instructions")
        words = views(subject, scenes, told).observation if told else before
        after = altering(changes.get("alter", ()))(words, every)
        pairs = zip(before.instruction, after.instruction, strict=True)
        other = np.array([a != b or name == "absent" for a, b in pairs])
        if other.any():
            changed[name], counted[name] = after, other
    return responses(subject.policy, before, changed, chance, counted)


def judge(numbers: dict[str, Any], heard: dict[str, Response], followed: Response | None = None) -> Judged:
    """The verdict: by what it acts on where the environment tells that, else by its success.

    ``followed``: how much words move its actions over whole episodes, compared with all modalities together. Where that
    is surely little, it is not said to follow the words, however little another scene moves its first actions.
    """
    name = "exchanged" if "exchanged" in numbers else "swapped"
    if name not in heard:
        return "There is nothing to listen to: all scenes have the same words.", "plain"
    if "pc_kept" in numbers[name]:
        return _by_object(numbers[name], heard[name], followed)
    return _by_success(numbers["normal"], numbers[name], DECIDING[name], heard[name], followed)


def _by_object(total: dict[str, Any], change: Response, followed: Response | None) -> Judged:
    other, kept = "with another object named, it", total["pc_kept_ci95"][0] > MOSTLY
    named, first = count(total, "pc_named"), count(total, "pc_first_named")
    if total["pc_named_ci95"][0] > MOSTLY:
        return f"It listens: {other} acts on that one in {named} scenes.", "good"
    if kept:
        same = f"{round(total['pc_kept'] / 100 * total['n_kept'])} of {total['n_kept']}"
        return f"It ignores the words: {other} still acts on the same one in {same} scenes.", "bad"
    if change.high < IGNORED:
        return f"It ignores the words: {_moved(change)}.", "bad"
    if total["pc_named_ci95"][0] > total["pc_first_named_ci95"][1]:
        return f"It listens in part: {other} acts on that one in {named} scenes, on the first one in {first}.", "plain"
    rarely = total["pc_named_ci95"][1] < MOSTLY
    if rarely and followed is not None and followed.high < IGNORED:
        return f"It ignores the words: {_moved_in_all(followed)}.", "bad"
    if rarely and change.low > IGNORED:
        but = f"Its first actions follow the words, but {other} acts on that one in only {named} scenes"
        return f"{but}: {_moved(change)}.", "bad"
    unclear = "Whether it listens is not clear"
    return f"{unclear}: {other} acts on that one in {named} scenes, on the first one in {first}.", "plain"


def _by_success(
    normal: dict[str, Any], other: dict[str, Any], whose: str, change: Response, followed: Response | None
) -> Judged:
    before, after = normal["pc_success"], other["pc_success"]
    rates = f"with the words of {whose}, success goes from {before:.0f} to {after:.0f} %"
    if change.high < IGNORED:
        return f"It ignores the words: {rates}, and {_moved(change)}.", "bad"
    if difference(normal, other)[0] > 0:
        return f"It listens: {rates}.", "good"
    if followed is not None and followed.high < IGNORED:
        return f"It ignores the words: {rates}, and {_moved_in_all(followed)}.", "bad"
    if change.low > IGNORED:
        return f"Its first actions follow the words, but success does not surely: {rates}; {_moved(change)}.", "plain"
    return f"Whether it listens is not clear: {rates}; {_moved(change)}.", "plain"


def _moved(change: Response) -> str:
    return f"other words move its first actions {change} as another scene does"


def _moved_in_all(followed: Response) -> str:
    return f"over whole episodes, those of another moment move its actions {followed} as all modalities together do"


def _bars(numbers: dict[str, Any]) -> list[page.Interval]:
    bars = [bar(numbers["normal"], "pc_success", "Success", "the instruction as in training")]
    for name in filter(numbers.__contains__, TRIALS):
        label, note, _ = TRIALS[name]
        if "pc_kept" in numbers[name]:
            bars += [
                bar(numbers[name], "pc_named", label, "acts on what is named now"),
                bar(numbers[name], "pc_first_named", "… acts on what was named first", "", "bad"),
            ]
        else:
            bars.append(bar(numbers[name], "pc_success", label, note, "good" if name == "paraphrase" else "plain"))
    return bars


def _changes(heard: dict[str, Response], followed: Response | None) -> list[str]:
    text = (
        "How far the first predicted actions move when only the words change, compared with how far they move in "
        "another scene under the same words: 0 means that the words are ignored; where they decide, it is about 1 "
        f"(at most {MOST:.0f} is told)."
    )
    rows = [
        (TRIALS[name][0], f"{response.share:.2f}", f"{response.low:.2f}–{response.high:.2f}")
        for name, response in heard.items()
    ]
    table = page.table("Change of the first actions", ("words", "change", "95 % interval"), rows)
    if followed is None:
        return [page.prose(text), table]
    little = (
        "Where another scene hardly moves its actions, a large share is still little. So the words of another moment "
        f"are compared with all modalities together, too: over whole episodes they move its actions {followed}. Below "
        f"{IGNORED}, with the whole interval, a policy is not said to follow the words."
    )
    return [page.prose(text), table, page.prose(little)]
