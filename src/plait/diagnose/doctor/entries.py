"""Are there entries of state and action that never change, that sit at a limit, or that are beyond it?"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from plait.diagnose.doctor.case import Case, Pair, is_gripper, last_part, pairs, span, still
from plait.diagnose.doctor.finding import Finding, skipped

MOVES = 0.1  # of the largest standard deviation among the entries of the same unit that are felt and commanded
NOISE = 1.0  # of an entry's standard deviation, from step to step: noise has 1.4, a movement much less
ANGLES = ("rx", "ry", "rz", "roll", "pitch", "yaw")
# share of the frames at exactly an extreme value: commands often are at one or the other, sensors hardly ever at either
SATURATED = {"action": 0.6, "state": 0.2}
CLIPPED = 0.1  # of these frames must be at one of two extremes, that it is named
BEYOND = 1e-3  # of the distance between the limits


def constant(case: Case) -> Iterator[Finding]:
    """Entries change where they should: one that never does is a fault where what belongs to it changes."""
    state, action = case.state[case.finite], case.action[case.finite]
    flat = {"state": still(state), "action": still(action)}
    if flat["action"].all():
        yield Finding("error", "no entry of the action ever changes; nothing can be learned: record the commands")
        return
    if case.spec.state and flat["state"].all():
        yield Finding("error", "no entry of the state ever changes; record the sensors, or leave the state out")
        return
    faults = list(_left_behind(case, state, action, flat))
    yield from faults
    if not faults:
        names = {"state": case.spec.state, "action": case.spec.actions}
        known = [f"{key}: {', '.join(np.array(names[key])[which])}" for key, which in flat.items() if which.any()]
        kept = f"; {'; '.join(known)} never change, and a policy will keep them so" if known else ""
        yield Finding("ok", f"entries change where they should{kept}")


def _left_behind(case: Case, state: np.ndarray, action: np.ndarray, flat: dict[str, np.ndarray]) -> Iterator[Finding]:
    """What stands still although its counterpart does not."""
    largest: dict[str, float] = defaultdict(float)  # how far what is commanded moves, by unit
    for pair in pairs(case.spec):
        if not flat["action"][pair.commanded]:
            largest[_unit(case, pair)] = max(largest[_unit(case, pair)], float(state[:, pair.felt].std()))
    for pair in pairs(case.spec):
        name, s, a = pair.name, pair.felt, pair.commanded
        felt, commanded = float(state[:, s].std()), float(action[:, a].std())
        numbers = {"state_std": felt, "action_std": commanded}
        least = MOVES * largest.get(_unit(case, pair), np.inf)  # with nothing to compare, nothing is told
        if flat["action"][a] and felt > least and _steps(case, s) < NOISE * felt:
            moves = f"although the state's {name} moves (standard deviation {felt:.3g})"
            fix = "record the command that moves it"
            yield Finding("error", f"action: {name} is always {action[0, a]:.4g}, {moves}; {fix}", numbers)
        if flat["state"][s] and not flat["action"][a]:
            moves = f"although the action's {name} changes (standard deviation {commanded:.3g})"
            fix = "record the sensor, or leave the entry out"
            yield Finding("error", f"state: {name} is always {state[0, s]:.4g}, {moves}; {fix}", numbers)


def _unit(case: Case, pair: Pair) -> str:
    """The unit that the state names for it, else what its name tells: metres are not compared with radians."""
    if case.spec.state_units:
        return case.spec.state_units[pair.felt]
    part = last_part(pair.name)
    return "place" if part in ("x", "y", "z") else "angle" if part in ANGLES else "other"


def _steps(case: Case, felt: int) -> float:
    """The standard deviation of an entry of the state from one frame to the next."""
    return float(np.concatenate([np.diff(case.state[span(row), felt]) for row in case.sound]).std())


def saturated(case: Case) -> Iterator[Finding]:
    """No entry stays at an extreme value, as a sensor or a command that is cut off does (grippers are left out)."""
    for key, names in (("state", case.spec.state), ("action", case.spec.actions)):
        values = getattr(case, key)[case.finite]
        for i, name in enumerate(names):
            entry = values[:, i]
            if is_gripper(name) or len(np.unique(entry)) < 10:
                continue
            shares = {end: float((entry == end).mean()) for end in (entry.min(), entry.max()) if end}
            for ends in ([*shares],) if key == "state" else ([end] for end in shares):
                share = sum(shares[end] for end in ends)
                if share > SATURATED[key]:
                    said = " or ".join(f"{end:.4g}" for end in ends if shares[end] > CLIPPED * share)
                    rule = f"in {share:.0%} of the frames, an extreme (above {SATURATED[key]:.0%} it is cut off)"
                    fix = "widen the range that is recorded, or lower the speed"
                    yield Finding("warning", f"{key}: {name} is {said} {rule}; {fix}", {"share": share})


def limits(case: Case) -> Iterator[Finding]:
    """Actions lie within their limits."""
    spec = next((spec for spec in (case.spec, case.env_spec) if spec and spec.action_low and spec.action_high), None)
    if spec is None or len(spec.actions) != len(case.spec.actions):
        yield skipped("the limits of the action are not known")
        return
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    action = case.action[case.finite]
    slack = BEYOND * (high - low)
    beyond = (action < low - slack) | (action > high + slack)
    if beyond.any():
        over = {case.spec.actions[i]: np.abs(action[:, i]).max() for i in np.flatnonzero(beyond.any(0))}
        share = float(beyond.any(1).mean())
        said = ", ".join(f"{name} is up to {worst:.3g}" for name, worst in over.items())
        rule = f"beyond the limits in {share:.0%} of the frames, where it is clipped"
        yield Finding("error", f"action: {said}, {rule}; use the unit that the environment expects", {"share": share})
