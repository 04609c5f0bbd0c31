"""Which modality does it use? Each one is taken away, made black, frozen or swapped, and success is measured again."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from plait.diagnose import page
from plait.diagnose.moments import moments
from plait.diagnose.response import IGNORED, Response, responses
from plait.diagnose.scenes import differing
from plait.diagnose.shapley import shapley
from plait.diagnose.shown import listed, spoken
from plait.diagnose.subject import Answer, Subject, Tone
from plait.evaluate.alter import Alteration, Blanked, Frozen, Removed, Swapped, altering
from plait.evaluate.statistics import difference
from plait.files import read_json_lines
from plait.spec import INSTRUCTION, is_camera

QUESTION = "Which modality does it use?"
WAYS: dict[str, type[Alteration]] = {"removed": Removed, "blanked": Blanked, "frozen": Frozen, "swapped": Swapped}
ENOUGH = 20.0  # percent of success that there must be to see what it rests on
MATTERS = 10.0  # percent: a smaller change of success is no reason to warn
KEPT = 0.5  # share of success: it can do without a modality if more than this surely remains
COLUMN = "imbalance/prediction/"  # of a training's log, with the modality's name behind it
UNRECORDED = (
    "How much each modality counted while the policy was trained cannot be shown: no log has it. Train with "
    "`--train.imbalance-every 50` to record it."
)
Summaries = dict[str, dict[str, dict[str, Any]]]  # modality -> way -> summary


def ask(subject: Subject) -> Answer:
    """Evaluate the subject's scenes with each modality altered in each way that makes sense for it."""
    modalities, normal = subject.policy.spec.modalities, subject.normal()["aggregated"]
    altered: Summaries = {name: {} for name in modalities}
    for modality, way in _trials(modalities):
        alter = (WAYS[way](modality),)
        found = subject.evaluate(f"{way}-{modality}", f"{spoken(modality)} {way}", alter=alter)
        altered[modality][way] = found["aggregated"]
    followed, values = follows(subject), shapley(subject)
    text, tone = judge(normal, altered, followed)
    numbers = {"normal": normal, "altered": altered, "shapley": {name: asdict(value) for name, value in values.items()}}
    numbers["change_of_actions"] = {name: asdict(response) for name, response in followed.items()}
    how = (
        "Removed: the policy is told that it is missing. Blanked: black pictures. Frozen: as at the episode's "
        "beginning. Swapped: that of another episode at the same moment, which is as usual as any but tells nothing."
    )
    parts = [page.prose(how), _table(normal, altered), *_shares(followed), *_shapley(values)]
    return Answer(QUESTION, text, tone, numbers, (*parts, *_imbalance(subject)))


def _trials(modalities: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for modality in modalities:
        yield modality, "removed"
        if is_camera(modality):
            yield modality, "blanked"
        if modality != INSTRUCTION:  # it never changes within an episode
            yield modality, "frozen"
        yield modality, "swapped"


def follows(subject: Subject) -> dict[str, Response]:
    """How much the actions change where a modality is that of another moment, compared with all of them being so.

    Those that are the same in all moments, of which that tells nothing, are left out.
    """
    before, modalities = moments(subject), subject.policy.spec.modalities
    every, told = np.ones(len(before), bool), differing(before)
    after = {name: Swapped(name).build()(before, every) for name in modalities if name in told}
    return responses(subject.policy, before, after, altering([Swapped(name) for name in modalities])(before, every))


def judge(normal: dict[str, Any], altered: Summaries, followed: dict[str, Response]) -> tuple[str, Tone]:
    """The verdict: first what misleads it, then what it does not use, then what its success rests on.

    Of what is not in ``followed`` nothing can be told.
    """
    alike = [name for name in altered if name not in followed]
    altered = {name: ways for name, ways in altered.items() if name in followed}
    misled = {name: best for name in altered if (best := _better_without(normal, altered[name]))}
    unused = [name for name in altered if name not in misled and _is_unused(normal, altered[name], followed[name])]
    used = [
        name
        for name, ways in altered.items()
        if name not in misled and name not in unused and difference(normal, ways["swapped"])[0] > 0
    ]
    needed = [name for name in used if difference(normal, altered[name]["removed"])[0] > 0]
    spared = [name for name in used if name not in needed and _is_spared(normal, altered[name])]
    unclear = [name for name in used if name not in needed and name not in spared]
    said = [_misled(normal, altered, name, way) for name, way in misled.items()]
    if unused:
        said.append(_unused(normal, altered, followed, unused))
    if needed:
        said.append(f"It needs {listed(list(map(spoken, needed)))}: {_fall(normal, altered, needed)}.")
    if spared:
        said.append(
            f"{_follows(normal, altered, spared)}, but can do without: {_rates(altered, spared, 'removed')} % remain."
        )
    if unclear:
        rates = _rates(altered, unclear, "removed")
        said.append(f"{_follows(normal, altered, unclear)}; whether it can do without is not clear: {rates} % remain.")
    if altered and not said:
        said.append(_nothing_stands_out(normal, altered, followed))
    if alike:
        what = listed([spoken(name) for name in alike])
        said.append(f"Nothing can be told of {what}, the same in all scenes.")
    return " ".join(said), "bad" if misled or unused else "good" if used else "plain"


def _fall(normal: dict[str, Any], altered: Summaries, names: list[str]) -> str:
    rates = _rates(altered, names, "swapped")
    return f"with another episode's, success goes from {normal['pc_success']:.0f} to {rates} %"


def _rates(altered: Summaries, names: list[str], way: str) -> str:
    return listed([f"{altered[name][way]['pc_success']:.0f}" for name in names])


def _follows(normal: dict[str, Any], altered: Summaries, names: list[str]) -> str:
    return f"It follows {listed(list(map(spoken, names)))} ({_fall(normal, altered, names)})"


def _is_spared(normal: dict[str, Any], ways: dict[str, dict[str, Any]]) -> bool:
    """Most of its success surely remains without it."""
    return difference(normal, ways["removed"])[1] < (1 - KEPT) * normal["pc_success"]


def _is_unused(normal: dict[str, Any], ways: dict[str, dict[str, Any]], followed: Response) -> bool:
    """Neither the actions follow it nor does success suffer under another episode's."""
    return followed.high < IGNORED and normal["pc_success"] - ways["swapped"]["pc_success"] < MATTERS


def _better_without(normal: dict[str, Any], ways: dict[str, dict[str, Any]]) -> str:
    """The way of altering a modality with which success is surely and clearly higher; "" where there is none."""
    better = [
        way
        for way, total in ways.items()
        if difference(total, normal)[0] > 0 and total["pc_success"] - normal["pc_success"] >= MATTERS
    ]
    return max(better, key=lambda way: ways[way]["pc_success"], default="")


def _misled(normal: dict[str, Any], altered: Summaries, name: str, way: str) -> str:
    rates = f"success goes from {normal['pc_success']:.0f} to {altered[name][way]['pc_success']:.0f} %"
    how = "with black pictures" if way == "blanked" else f"with it {way}"
    what = spoken(name)
    return f"{what[0].upper()}{what[1:]} {'mislead' if name == INSTRUCTION else 'misleads'} it: {how}, {rates}."


def _unused(normal: dict[str, Any], altered: Summaries, followed: dict[str, Response], names: list[str]) -> str:
    what = listed([spoken(name) for name in names], "or")
    if normal["pc_success"] >= ENOUGH:
        return f"It does not use {what}: {_fall(normal, altered, names)}."
    changes = listed([f"{followed[name].share:.2f}" for name in names])
    return f"It does not use {what}: that of another moment moves its actions by {changes} of what all together do."


def _nothing_stands_out(normal: dict[str, Any], altered: Summaries, followed: dict[str, Response]) -> str:
    ordered = sorted(followed, key=lambda name: -followed[name].share)
    shares = listed([f"{spoken(name)} ({followed[name].share:.2f})" for name in ordered])
    rest = f"its actions follow {shares}, where 1 is what all together do"
    if normal["pc_success"] < ENOUGH:
        return f"It succeeds too rarely to tell what success rests on; {rest}."
    if all(_is_spared(normal, ways) for ways in altered.values()):
        return f"It can do without any one of them; {rest}."
    return f"These are too few episodes to tell what success rests on; {rest}."


def _table(normal: dict[str, Any], altered: Summaries) -> str:
    cell = lambda total: "{:.0f} % ({:.0f}–{:.0f})".format(total["pc_success"], *total["pc_success_ci95"])  # noqa: E731
    rows = [
        (spoken(name), *(cell(ways[way]) if way in ways else "–" for way in WAYS)) for name, ways in altered.items()
    ]
    caption = f"Success with one modality altered; unaltered: {cell(normal)}"
    return page.table(caption, ("modality", *WAYS), rows)


def _shares(followed: dict[str, Response]) -> list[str]:
    text = (
        "How far the actions move when one modality is that of another moment, compared with all of them being so: 0 "
        "means that it is ignored. Several that agree can each have a small share."
    )
    if not followed:
        return []
    rows = [
        (spoken(name), f"{response.share:.2f}", f"{response.low:.2f}–{response.high:.2f}")
        for name, response in followed.items()
    ]
    return [page.prose(text), page.table("Change of the actions", ("modality", "change", "95 % interval"), rows)]


def _shapley(values: dict[str, Any]) -> list[str]:
    text = (
        "What each modality brings to success, in points of percent: its Shapley value, the mean over all orders in "
        "which the modalities could be added to a policy that has none. Together they are what all of them bring."
    )
    rows = [
        (spoken(name), *(f"{round(x):+d}" for x in (value.points, value.low, value.high)))
        for name, value in values.items()
    ]
    return [page.prose(text), page.table("Share in success", ("modality", "points", "from", "to (95 %)"), rows)]


def _imbalance(subject: Subject) -> list[str]:
    """The curve that training has recorded; how to get it, where it was not measured."""
    log = read_json_lines(subject.run / "log.jsonl") if subject.run is not None else []
    series = {
        spoken(name): [(row["step"], row[COLUMN + name]) for row in log if COLUMN + name in row]
        for name in subject.policy.spec.modalities
    }
    shown = page.curve("Share in the prediction while it was trained", "updates", series, linear=True)
    return [shown or page.prose(UNRECORDED)]
