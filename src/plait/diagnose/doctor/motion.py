"""Does the state follow the actions? Kind, delay, direction and scale, found by regression, without a simulator."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plait.diagnose.doctor.case import Case, Pair, is_gripper, last_part, span, still
from plait.diagnose.doctor.finding import Finding, Severity, frames, skipped
from plait.spec import Spec

FOLLOWS = 0.3  # share of the variance of the movement that the action explains, at least
CLEARLY = 0.2  # by how much one explanation must be better than another
FEWEST = 10  # frames, of which something can be said
EARLIEST, LATEST = -8, 0.5  # steps; s
FACTOR = 3.0  # between the expected and the measured scale: what the hand touches holds it back
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "rad": 1.0, "deg": np.pi / 180}


@dataclass(frozen=True)
class Fit:
    """How movement follows commands at one lag: r squared and slope of each pair of entries."""

    r2: np.ndarray
    slope: np.ndarray

    @property
    def score(self) -> float:
        return float(self.r2.mean())


def follow(case: Case) -> Iterator[Finding]:
    """Each entry of the state moves as the action's entry of the same name says, in the step in which it says so."""
    if not case.followed:
        yield skipped("no entry of state and action has the same name and moves: which belongs to which is not known")
        return
    half = int(np.median([row.length for row in case.sound])) // 2  # of what is left of less, anything may be told
    lags = range(max(EARLIEST, -half), max(3, round(LATEST * (case.spec.rate or 10))) + 3)
    fits = {kind: {lag: _fit(case, kind, lag) for lag in lags} for kind in ("delta", "absolute")}
    best = {kind: max(by_lag.items(), key=lambda item: item[1].score) for kind, by_lag in fits.items()}
    level = _fit(case, "level", 0).score
    kind = "absolute" if level > best["delta"][1].score + CLEARLY else "delta"
    lag, fit = best[kind]
    severity: Severity = "error" if case.spec.action_kind else "warning"  # does the dataset itself state conventions?
    numbers = {"kind": kind, "lag": lag, "r2": round(fit.score, 3), "absolute_r2": round(level, 3)}
    numbers["slope"] = {pair.name: round(float(slope), 5) for pair, slope in zip(case.followed, fit.slope, strict=True)}
    more = " or more" if lag in (lags[0], lags[-1]) else ""  # beyond what is tried, it may fit better still
    faults = list(_faults(case, kind, lag, more, fit, fits[kind][0]))
    yield from (Finding(severity, sentence, numbers) for sentence in faults)
    if not faults:
        when = f"{frames(lag)} later" if lag else "at once"
        yield Finding("ok", f"the state follows {kind} actions {when} (r² {fit.score:.2f})", numbers)


def _faults(case: Case, kind: str, lag: int, more: str, fit: Fit, at_once: Fit) -> Iterator[str]:
    rate, stated = case.spec.rate or 10, case.spec.action_kind
    if fit.score < FOLLOWS:
        rule = f"r² {fit.score:.2f}, at least {FOLLOWS:g} is expected"
        yield f"the state does not follow the actions ({rule}); check that both are of the same moments and frame"
        return
    if stated and kind != stated:
        fix = "convert the actions, or correct action_kind"
        yield f"the actions are {kind} by what the state does, the dataset says {stated}; {fix}"
        return
    if lag < 0 and fit.score > at_once.score + 0.02:
        if more:
            rule = f"r² {at_once.score:.2f} at once, {fit.score:.2f} when they are {frames(-lag)} or more late"
            yield f"the state does not follow the actions ({rule}); check that both are of the same moments"
            return
        fix = f"pair each observation with the action {frames(-lag)} later"
        yield f"the state moves {frames(-lag)} before the action that moves it, which no cause does; {fix}"
    if lag > max(3, LATEST * rate):
        fix = "pair each observation with an earlier action"
        yield f"the state follows the action {frames(lag)}{more} later, more than {LATEST:g} s; {fix}"
    deaf = [pair.name for pair, r2 in zip(case.followed, fit.r2, strict=True) if r2 < FOLLOWS]
    if deaf:
        rule = f"r² below {FOLLOWS:g}"
        yield f"{', '.join(deaf)}: the state does not follow the action ({rule}); check the order of the entries"
    rest = [(p, slope) for p, slope, r2 in zip(case.followed, fit.slope, fit.r2, strict=True) if r2 >= FOLLOWS]
    yield from _scale_faults(case.spec, kind, rest)


def _scale_faults(spec: Spec, kind: str, slopes: list[tuple[Pair, float]]) -> Iterator[str]:
    if falling := [pair.name for pair, slope in slopes if slope < 0]:
        yield f"{', '.join(falling)}: the state falls when the action is positive; turn the sign of one of the two"
    off = {}
    for pair, slope in slopes:
        unit = _unit(spec.action_units, pair.commanded) / _unit(spec.state_units, pair.felt)
        ratio = abs(slope) / (1.0 if kind == "absolute" else unit)
        if ratio < 1 / FACTOR or ratio > FACTOR:  # not where a unit is unknown: NaN is neither
            off[pair.name] = f"{ratio:.3g}"
    if off:
        said = f"{', '.join(off)}: the state moves {', '.join(off.values())} times as far as the units say"
        yield f"{said} (within a factor of {FACTOR:g}); correct the units or the values of state and action"


def gripper(case: Case) -> Iterator[Finding]:
    """The fingers follow the gripper's command, in the direction that the dataset states."""
    commanded = [i for i, name in enumerate(case.spec.actions) if is_gripper(name)]
    felt = [i for i, name in enumerate(case.spec.state) if is_gripper(name)]
    if not commanded or not felt:
        yield skipped("no entry of action and state is called gripper, finger or jaw")
        return
    for a in commanded:
        name = case.spec.actions[a]
        own = [i for i in felt if case.spec.state[i] == name] or felt
        if still(case.action[case.finite][:, a]):
            yield Finding("ok", f"{name} never changes, so that its sign cannot be seen without a simulator")
            continue
        r = max((_gripper_r(case, a, own, lag) for lag in _soon(case)), key=abs)
        numbers, said = {"r": round(r, 3)}, f"the fingers follow the action's {name} with r {r:+.2f}"
        expected = {"positive_closes": -1, "positive_opens": 1}.get(case.spec.gripper or "", 0)
        if abs(r) < FOLLOWS:
            fix = "check that it is recorded and belongs to these fingers"
            yield Finding("warning", f"{said}, at least {FOLLOWS:g} either way is expected; {fix}", numbers)
        elif expected * r < 0 and all(_is_opening(case.spec, i) for i in own):
            way = "open" if r > 0 else "close"
            rule = f"they {way} when it is positive, the dataset says {case.spec.gripper}"
            yield Finding("error", f"{said}: {rule}; turn the sign of {name}", numbers)
        else:
            yield Finding("ok", said, numbers)


def rotation(case: Case) -> Iterator[Finding]:
    """Quaternions have norm 1, angles are radians, an axis-angle is at most pi long, and nothing jumps."""
    groups = {"quaternion": ("qx", "qy", "qz", "qw"), "vector": ("rx", "ry", "rz"), "euler": ("roll", "pitch", "yaw")}
    ends = [last_part(name) for name in case.spec.state]
    found = {kind: [ends.index(end) for end in group] for kind, group in groups.items() if {*group} <= {*ends}}
    if not found:
        yield skipped("no rotation is known by its names (qx qy qz qw, rx ry rz, or roll pitch yaw) in the state")
    for kind, entries in found.items():
        parts = [case.state[span(row)][:, entries] for row in case.sound]
        norms, largest = np.linalg.norm(np.concatenate(parts), axis=1), max(float(np.abs(part).max()) for part in parts)
        names = " ".join(case.spec.state[i] for i in entries)
        if kind == "quaternion" and np.abs(norms - 1).max() > 0.02:
            said = f"its norm is {norms.min():.3g} to {norms.max():.3g}, a rotation's is 1"
            yield Finding("error", f"{names} is no quaternion: {said}; check the order of the entries")
        elif kind != "quaternion" and largest > 2 * np.pi + 0.01:
            yield Finding("error", f"{names} is up to {largest:.3g}, more than 2 pi: degrees? Convert to radians")
        elif kind == "vector" and case.spec.rotation == "axis_angle" and norms.max() > np.pi + 0.01:
            said = f"is up to {norms.max():.3g} long, an axis-angle at most pi"
            yield Finding("error", f"{names} {said}; convert it, or correct the convention (rotation)")
        elif (jump := max((float(np.abs(np.diff(part, axis=0)).max(initial=0)) for part in parts), default=0)) > 1.5:
            said = f"jumps by {jump:.3g} from one frame to the next (at most 1.5)"
            yield Finding("warning", f"{names} {said}: it wraps around; use a rotation_6d, or unwrap it")


def _fit(case: Case, kind: str, lag: int) -> Fit:
    """Regress, over all episodes, the state's change from t + lag on the action at t ("delta"), on the change of
    the action up to t ("absolute"), or the state after the step itself on the action ("level").
    """
    commands, movements = [], []
    for row in case.sound:
        state = case.state[span(row)][:, [pair.felt for pair in case.followed]]
        action = case.action[span(row)][:, [pair.commanded for pair in case.followed]]
        moved = state[1:] if kind == "level" else np.diff(state, axis=0)
        command = np.diff(action, axis=0, prepend=np.nan) if kind == "absolute" else action
        t = np.arange(1 if kind == "absolute" else 0, len(moved))
        t = t[(t + lag >= 0) & (t + lag < len(moved))]
        commands.append(command[t])
        movements.append(moved[t + lag])
    x, y = np.concatenate(commands), np.concatenate(movements)
    if len(x) < FEWEST:
        return Fit(np.zeros(x.shape[1]), np.zeros(x.shape[1]))
    x, y = x - x.mean(0), y - y.mean(0)
    both, of_x, of_y = (x * y).sum(0), (x * x).sum(0), (y * y).sum(0)
    return Fit(both**2 / np.maximum(of_x * of_y, 1e-30), both / np.maximum(of_x, 1e-30))


def _gripper_r(case: Case, command: int, fingers: list[int], lag: int) -> float:
    rows = [row for row in case.sound if row.length > lag]
    if not rows:
        return 0.0
    x = np.concatenate([case.action[row.start : row.start + row.length - lag, command] for row in rows])
    y = np.concatenate([case.state[row.start + lag : row.start + row.length, fingers].sum(1) for row in rows])
    return float(np.corrcoef(x, y)[0, 1]) if not (still(x) or still(y)) else 0.0


def _soon(case: Case) -> range:
    """The steps within which fingers answer."""
    return range(1, max(2, round(LATEST * (case.spec.rate or 10))))


def _is_opening(spec: Spec, entry: int) -> bool:
    """Is this entry of the state larger when the fingers are further apart?"""
    unit = spec.state_units[entry] if spec.state_units else ""
    return unit in UNITS or "0 = closed" in unit


def _unit(units: tuple[str, ...] | None, entry: int) -> float:
    """``"10 mm"`` -> 0.01; NaN where a unit is unknown, which compares with nothing."""
    match = re.fullmatch(r"([\d.]*) ?(\w+)", units[entry]) if units else None
    return float(match[1] or 1) * UNITS[match[2]] if match and match[2] in UNITS else np.nan
