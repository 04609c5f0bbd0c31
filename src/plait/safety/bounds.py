"""Where the limits of one robot's actions are: what its ``Spec``, the training data and the user say, in one place."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.config import part_name
from plait.spec import Spec

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "rad": 1.0, "deg": math.pi / 180}
LARGEST = float(np.finfo(np.float32).max)
TOLERANCE = 1e-6  # of what counts as changed; rounding to float32 is below it
Vector = NDArray[np.float64]
Numbers = tuple[float, ...]


def refuse_numbers(config: Any, names: Iterable[str], rule: str, fits: Callable[[float], bool]) -> None:
    """Raise a ValueError for the first of the named fields that has a number which is not finite, or does not fit.

    Args:
        config: of a part; its fields are numbers, several numbers, or None, which is let through.
        rule: what is wanted, as the sentence says it after "give".
    """
    for name in names:
        value = getattr(config, name)
        for number in [] if value is None else np.atleast_1d(value).tolist():
            if not (abs(number) <= LARGEST and fits(number)):  # so with one that is not a number
                raise ValueError(f"{part_name(type(config))}.{name}: {number}; give {rule}")


@dataclass(frozen=True)
class LimitsConfig:
    """What the user allows, besides the limits of the ``Spec`` and of the training data.

    Attributes:
        low, high: of each entry of the action, in its unit.
        box_low, box_high: where the moving entries may be, in units of the state: the hand's x, y, z, or each joint.
        max_speed: of each of them, units of the state per second.
        max_acceleration: of each, per second squared. Braking is always allowed.
        step: how far an action of 1 moves each of them, where the units of the ``Spec`` do not tell. Not 0.
        action_margin: how far an action may leave the range seen in training, as a share of that range, from 0.
        degraded_speed: share of the largest motion that is left in degraded mode, from 0 to 1.
        action_kind: ``"delta"`` or ``"absolute"``, where the ``Spec`` does not say.
        gripper: what a gripper is told while the robot holds before it was told anything.

    Raises:
        ValueError: a number that is not finite, or outside of its range.
    """

    low: Numbers | None = None
    high: Numbers | None = None
    box_low: Numbers | None = None
    box_high: Numbers | None = None
    max_speed: float | None = None
    max_acceleration: float | None = None
    step: Numbers | None = None
    action_margin: float = 0.1
    degraded_speed: float = 0.9
    action_kind: str | None = None
    gripper: float = 0.0

    def __post_init__(self) -> None:
        bounds = ("low", "high", "box_low", "box_high")
        refuse_numbers(self, bounds, "a finite number, a large one where there is no limit", lambda number: True)
        motion = ("max_speed", "max_acceleration")
        refuse_numbers(self, motion, "a finite number above 0, or leave it out for no limit", lambda number: number > 0)
        refuse_numbers(self, ["step"], "a finite number other than 0", lambda number: number != 0)
        refuse_numbers(self, ["action_margin"], "a finite share, 0 or more", lambda number: number >= 0)
        refuse_numbers(self, ["degraded_speed"], "a share, from 0 to 1", lambda number: 0 <= number <= 1)
        refuse_numbers(self, ["gripper"], "a finite number", lambda number: True)


@dataclass(frozen=True)
class Seen:
    """The range of each action in the training data, and the largest change between two; None: not known."""

    low: Numbers | None = None
    high: Numbers | None = None
    change: Numbers | None = None


class Bounds:
    """The limits, and how actions move the state as far as it is known.

    Attributes:
        delta: actions are motions; else they are places.
        low, high: of each entry of the action.
        grippers: their entries.
        pairs: entry of the action -> the entry of the state that it moves.
        scale: units of the state per unit of the action, of each pair; None where it is not known.
        box: where the paired entries of the state may be, lowest and highest, or None.

    Raises:
        ValueError: limits of another number than entries, an empty range, an unknown kind of action, or a limit on
            positions where it is not known which entries move by how much.
    """

    def __init__(self, spec: Spec, config: LimitsConfig = LimitsConfig(), seen: Seen = Seen(), rate: float = 10.0):
        self.spec, self.config, self.seen, self.rate = spec, config, seen, rate
        kind = config.action_kind or spec.action_kind
        if kind not in ("delta", "absolute"):
            raise ValueError(f"action_kind: {kind!r}; give 'delta' or 'absolute', which says what standing still is")
        self.delta = kind == "delta"
        self.grippers = [i for i, name in enumerate(spec.actions) if "gripper" in name.lower()]
        self.pairs = paired(spec, self.grippers, self.delta)
        self.low, self.high = self._ranges()
        self.scale, self.box = self._units(), self._borders()
        self._check_positions()

    @property
    def needs_position(self) -> bool:
        """Whether an action cannot be allowed without knowing where the robot is."""
        return self.box is not None or not self.delta

    @property
    def kept(self) -> list[int]:
        """The entries of the action that standing still keeps as they were told last; the others are 0."""
        return self.grippers if self.delta else list(range(len(self.low)))

    @cached_property
    def can_slow(self) -> bool:
        """Whether the largest motion is known, so that a share of it is."""
        return bool(max(self.reach.max(initial=0.0), self.rest_reach.max(initial=0.0)) < LARGEST / 1e6)

    @cached_property
    def rest(self) -> list[int]:
        """The entries that move something, but it is not known what of the state."""
        known = [] if self.scale is None else self.pairs
        return [i for i in range(len(self.low)) if i not in known and i not in self.grippers]

    @cached_property
    def rest_reach(self) -> Vector:
        """The largest of their motions; of absolute actions it is not known, nor asked for."""
        return np.maximum(np.abs(self.low), np.abs(self.high))[self.rest] if self.delta else np.zeros(len(self.rest))

    @cached_property
    def reach(self) -> Vector:
        """The largest motion of the pairs that counts as usual, in units of the state."""
        pairs = list(self.pairs)
        if self.scale is None:
            return np.zeros(0)
        if self.delta:
            return np.maximum(np.abs(self.low), np.abs(self.high))[pairs] * np.abs(self.scale)
        if self.seen.change is not None:
            return np.array(self.seen.change)[pairs] * np.abs(self.scale)
        return np.full(len(pairs), LARGEST if self.config.max_speed is None else self.config.max_speed / self.rate)

    def _ranges(self) -> tuple[Vector, Vector]:
        """The narrowest of all limits on entries; of deltas, standing still is never forbidden."""
        count, config, seen, spec = len(self.spec.actions), self.config, self.seen, self.spec
        low, high = np.full(count, -LARGEST), np.full(count, LARGEST)
        if seen.low is not None and seen.high is not None:
            room = config.action_margin * np.subtract(seen.high, seen.low) + TOLERANCE
            low, high = np.subtract(seen.low, room), np.add(seen.high, room)
        for name, least, most in (("spec", spec.action_low, spec.action_high), ("limits", config.low, config.high)):
            for bound in (least, most):
                if bound is not None and len(bound) != count:
                    raise ValueError(f"{name}: {len(bound)} limits for {count} entries of the action {spec.actions}")
            low = low if least is None else np.maximum(low, least)
            high = high if most is None else np.minimum(high, most)
        if self.delta:
            moving = [i for i in range(count) if i not in self.grippers]
            low[moving], high[moving] = np.minimum(low, 0)[moving], np.maximum(high, 0)[moving]
        if not (low <= high).all():  # so with a limit that is not a number
            i = int(np.argmin(low <= high))
            raise ValueError(f"limits of {spec.actions[i]}: {low[i]:g} to {high[i]:g} is empty; widen low or high")
        return inward(low, 1), inward(high, -1)

    def _units(self) -> Vector | None:
        """Units of the state per unit of the action, of each pair; None: not known, or there are no pairs."""
        if not self.pairs:
            return None
        if self.config.step is not None:
            return np.array(self.config.step)
        action, state = self.spec.action_units, self.spec.state_units
        if action is None or state is None:
            return None if self.delta else np.ones(len(self.pairs))
        scales = [ratio(action[i], state[j]) for i, j in self.pairs.items()]
        return None if None in scales else np.array(scales, np.float64)

    def _borders(self) -> tuple[Vector, Vector] | None:
        config, count = self.config, len(self.pairs)
        if config.box_low is None and config.box_high is None:
            return None
        low, high = config.box_low or [-LARGEST] * count, config.box_high or [LARGEST] * count
        if any(least > most for least, most in zip(low, high, strict=False)):
            raise ValueError(f"box_low {config.box_low} is above box_high {config.box_high}; exchange them")
        return np.array(low), np.array(high)

    def _check_positions(self) -> None:
        config, names = self.config, [self.spec.actions[i] for i in self.pairs]
        wanted = [n for n in ("box_low", "box_high", "max_speed", "max_acceleration") if getattr(config, n) is not None]
        wanted += [] if self.delta else ["absolute actions"]
        if wanted and self.scale is None:
            way = "give step" if names else "name the entries of state and action alike"
            raise ValueError(f"{wanted[0]}: it is not known how actions move the state; {way}")
        for name in ("box_low", "box_high", "step"):
            if (numbers := getattr(config, name)) is not None and len(numbers) != len(names):
                raise ValueError(f"{name}: {len(numbers)} numbers, expected {len(names)}, for {', '.join(names)}")


def paired(spec: Spec, grippers: list[int], delta: bool) -> dict[int, int]:
    """Entry of the action -> the entry of the state that it moves: the hand's x, y, z, and what has the same name.

    Of deltas, only the position or the joints add up like that; rotations are limited by their entries alone.
    """
    ends = replace(spec, state=spec.actions).position
    pairs = dict(zip(ends, spec.position, strict=True)) if ends and spec.position else {}
    if pairs and delta:
        return pairs
    same = {i: spec.state.index(name) for i, name in enumerate(spec.actions) if name in spec.state}
    return {i: j for i, j in {**same, **pairs}.items() if i not in grippers}


def ratio(action: str, state: str) -> float | None:
    """How many of the state's unit one of the action's is: ``("10 mm", "m")`` -> 0.01; None where it is not known."""
    if action == state:
        return 1.0
    found = [re.fullmatch(r"([\d.]*)\s*([a-z]+)", unit.strip()) for unit in (action, state)]
    if not all(match and match[2] in UNITS for match in found):
        return None
    one, other = (float(match[1] or 1) * UNITS[match[2]] for match in found if match)
    return one / other if one and other else None


def inward(bound: Vector, direction: int) -> Vector:
    """The nearest number of 32 bits that is not outside of ``bound``, so that rounding leaves no limit."""
    rounded = bound.astype(np.float32)
    outside = rounded.astype(np.float64) < bound if direction > 0 else rounded.astype(np.float64) > bound
    return np.where(outside, np.nextafter(rounded, np.float32(direction * np.inf)), rounded).astype(np.float64)
