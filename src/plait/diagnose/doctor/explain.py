"""Why does a replay differ? Simple faults are undone, one at a time: which one brings the recorded states back?"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import gymnasium
import numpy as np

from plait.diagnose.doctor.case import Case, Scene, observed_state
from plait.diagnose.doctor.finding import frames

EXPLAINED = 0.35  # share of the difference that a fault, undone, may leave
LAGS = range(1, 9)  # steps
SAME = 0.02  # standard deviations: entries that are one and the same but for unit and offset


@dataclass(frozen=True)
class Shown:
    """What was recorded of an episode: ``[n, s]`` and ``[n, a]``."""

    scene: Scene
    state: np.ndarray
    action: np.ndarray


@dataclass(frozen=True)
class Replay:
    """What the environment did: a state before each action, ``[n, s]``; the last one stays where it ended early."""

    state: np.ndarray
    success: bool


@dataclass(frozen=True)
class Explanation:
    """A fault and its cure; how far the states are apart, and how many episodes succeed, without it."""

    sentence: str
    difference: float
    successes: int


Undo = Callable[[Shown], np.ndarray]


def execute(case: Case, scene: Scene, actions: np.ndarray) -> Replay:
    assert case.simulator is not None
    states, success = [], False
    for observation, info in perform(case, case.simulator, scene, actions):
        states.append(observed_state(observation))
        success = success or bool(info.get("is_success"))
    states += [states[-1]] * (len(actions) - len(states))
    return Replay(np.stack(states[: len(actions)]), success)


def perform(
    case: Case, env: gymnasium.Env, scene: Scene, actions: np.ndarray
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The first observation, and observation and info after each action, until the environment ends the episode."""
    yield scene.reset(env)[0], {}
    disturbed = case.shown.mishaps(case.env_spec or case.spec, scene.seed, scene.attempt)  # the dataset's may be wrong
    for action in actions:
        observation, _, terminated, truncated, info = env.step(disturbed(action.astype(np.float32)))
        yield observation, info
        if truncated or (terminated and not case.shown.dwell):
            return


def difference(case: Case, recorded: np.ndarray, replayed: np.ndarray) -> float:
    """Root mean square over frames and entries, in standard deviations of the dataset; 0 without a state.

    Raises:
        ValueError: the environment's state has another number of entries.
    """
    if recorded.shape != replayed.shape:
        sizes = f"{recorded.shape[-1]} entries in the dataset, {replayed.shape[-1]} in the environment"
        raise ValueError(f"the state has {sizes}; name the environment of the recording")
    return float(np.sqrt((((recorded - replayed) / _width(case)) ** 2).mean())) if recorded.size else 0.0


def explain(case: Case, episodes: list[Shown], replays: list[Replay], close: float) -> Explanation | None:
    """The fault that, undone, leaves least of the difference; None when each leaves too much."""
    before = _compared(case, "", episodes, replays)
    enough = max(close, EXPLAINED * before.difference)

    def tried(sentence: str, undo: Undo, shown: list[Shown]) -> Explanation:
        return _compared(case, sentence, shown, [execute(case, each.scene, undo(each)) for each in shown])

    likely = [
        (sentence, undo)
        for sentence, undo in action_faults(case, episodes, replays)
        if tried(sentence, undo, episodes[:1]).difference <= enough  # on one episode first: that takes less time
    ]
    found = [tried(sentence, undo, episodes) for sentence, undo in likely]
    found += state_faults(case, episodes, replays)
    found = [each for each in found if each.difference <= enough and each.successes >= before.successes]
    found = [each for each in found if each.difference < before.difference or each.successes > before.successes]
    return min(found, key=lambda each: (-each.successes, each.difference), default=None)


def action_faults(case: Case, episodes: list[Shown], replays: list[Replay]) -> Iterator[tuple[str, Undo]]:
    """(what is wrong and what to do, the actions without that)."""
    names = case.spec.actions
    for i, name in enumerate(names):
        if any(each.action[:, i].any() for each in episodes):
            sign = np.where(np.arange(len(names)) == i, -1.0, 1.0)
            yield f"the sign of action {name} is turned; multiply it by -1", lambda each, s=sign: each.action * s
    for one, other in combinations([pair.commanded for pair in case.followed], 2):
        order = np.arange(len(names))
        order[[one, other]] = other, one
        said = f"actions {names[one]} and {names[other]} are exchanged; exchange them back"
        yield said, lambda each, order=order: each.action[:, order]
    box = case.simulator.action_space if case.simulator else None
    executed = [np.clip(each.action, getattr(box, "low", None), getattr(box, "high", None)) for each in episodes]
    gain = _gain(case, executed, [again.state for again in replays])
    for lag in _lags(episodes):
        said, cure = f"each action stands {frames(lag)} too", "pair each observation with the action"
        late = f"{said} late; {cure} {frames(lag)} later"
        yield late, lambda each, k=lag: np.concatenate([each.action[k:], each.action[-1:].repeat(k, 0)])
        early = f"{said} early; {cure} {frames(lag)} earlier"
        yield early, lambda each, k=lag: np.concatenate([_moves(case, each, gain)[:k], each.action[:-k]])
    if gain is not None:
        yield from _scale_faults(case, episodes, gain)


def _scale_faults(case: Case, episodes: list[Shown], gain: np.ndarray) -> Iterator[tuple[str, Undo]]:
    """Actions in another unit, or places instead of changes. ``gain``: the environment's, see ``_gain``."""
    felt, commanded = _places(case)
    recorded = _gain(case, [each.action for each in episodes], [each.state for each in episodes])
    factor = float(np.median(recorded / gain)) if recorded is not None else 1.0
    if factor > 0 and abs(factor - 1) > 0.1:
        scale = np.where(np.isin(np.arange(len(case.spec.actions)), commanded), factor, 1.0)
        said = f"actions are {1 / factor:.3g} times what the environment expects; multiply them by {factor:.3g}"
        yield said, lambda each: each.action * scale

    def changes(each: Shown) -> np.ndarray:
        action = each.action.copy()
        action[:, commanded] = (action[:, commanded] - each.state[:, felt]) / gain
        return action

    said = "actions are places, the environment expects changes"
    yield f"{said}; subtract the state and divide by the unit", changes


def state_faults(case: Case, episodes: list[Shown], replays: list[Replay]) -> Iterator[Explanation]:
    """Faults of the recorded states alone: the actions succeed as they are, or not."""
    successes = sum(again.success for again in replays)
    recorded, replayed = [each.state for each in episodes], [again.state for again in replays]
    for lag in _lags(episodes):
        said, cure = f"each state stands {frames(lag)} too", "pair each action with the state"
        early = [difference(case, one[:-lag], other[lag:]) for one, other in zip(recorded, replayed, strict=True)]
        late = [difference(case, one[lag:], other[:-lag]) for one, other in zip(recorded, replayed, strict=True)]
        yield Explanation(f"{said} early; {cure} {frames(lag)} before", float(np.mean(early)), successes)
        yield Explanation(f"{said} late; {cure} {frames(lag)} after", float(np.mean(late)), successes)
    sentences, mended = _mended(case, np.concatenate(recorded), np.concatenate(replayed))
    if sentences:
        yield Explanation("; ".join(sentences), difference(case, mended, np.concatenate(replayed)), successes)


def _lags(episodes: list[Shown]) -> list[int]:
    """Those that leave at least half of each episode as it was recorded: with nothing left, any fault is undone."""
    shortest = min(len(each.action) for each in episodes)
    return [lag for lag in LAGS if 2 * lag <= shortest]


def _mended(case: Case, recorded: np.ndarray, replayed: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Entries of the state in another unit or place than the environment's: what is wrong, and the states without."""
    wide, names = case.state[case.finite].std(0), case.spec.state
    found, mended = defaultdict(list), recorded.copy()  # what is wrong -> entries
    for i in np.flatnonzero(np.abs(recorded - replayed).mean(0) > SAME * wide):
        for j in sorted(range(len(names)), key=lambda j: j != i):  # itself first
            if np.ptp(replayed[:, j]) < 1e-9:
                continue
            slope, offset = np.polyfit(replayed[:, j], recorded[:, i], 1)
            if np.abs(slope * replayed[:, j] + offset - recorded[:, i]).mean() < SAME * wide[i]:
                mended[:, i] = replayed[:, i]
                unit = f"{slope:.4g} times the environment's{f' {offset:+.3g}' if abs(offset) > 1e-3 else ''}; convert"
                found[unit if i == j else f"the environment's {names[j]}; put it in its place"].append(names[i])
                break
    return [f"state {', '.join(entries)} is {what}" for what, entries in found.items()], mended


def _compared(case: Case, sentence: str, episodes: list[Shown], replays: list[Replay]) -> Explanation:
    gaps = [difference(case, each.state, again.state) for each, again in zip(episodes, replays, strict=True)]
    return Explanation(sentence, float(np.mean(gaps)), sum(again.success for again in replays))


def _width(case: Case) -> np.ndarray:
    """``[s]``: the standard deviation of each entry, and infinity for one that hardly moves: noise is no difference."""
    wide = case.state[case.finite].std(0)
    return np.where(wide > 0.02 * wide.max(initial=0), wide, np.inf)


def _gain(case: Case, actions: list[np.ndarray], states: list[np.ndarray]) -> np.ndarray | None:
    """By how much each entry that is both felt and commanded changes for an action of 1; None where it is not known."""
    felt, commanded = _places(case)
    if not felt or (case.env_spec and case.env_spec.action_kind == "absolute"):
        return None
    moved = np.concatenate([np.diff(state[:, felt], axis=0) for state in states])
    asked = np.concatenate([action[:-1, commanded] for action in actions])
    gain = (moved * asked).sum(0) / np.maximum((asked * asked).sum(0), 1e-12)
    return gain if (np.abs(gain) > 1e-9).all() else None


def _moves(case: Case, each: Shown, gain: np.ndarray | None) -> np.ndarray:
    """Actions that would have led from each state to the next, the gripper as at first."""
    moves = each.action[:1].repeat(len(each.action), 0)
    if gain is not None:
        felt, commanded = _places(case)
        moves[:-1, commanded] = np.diff(each.state[:, felt], axis=0) / gain
    return moves


def _places(case: Case) -> tuple[list[int], list[int]]:
    """Of what is both felt and commanded: in the state, and in the action."""
    return [pair.felt for pair in case.followed], [pair.commanded for pair in case.followed]
