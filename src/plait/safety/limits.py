"""What leaves towards one robot: each action is finite, inside of its limits, and no faster than allowed.

An action is limited by shrinking its motion towards standing still, so that one limit never breaks another.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.safety.bounds import LARGEST, TOLERANCE, Bounds, LimitsConfig, Seen, Vector
from plait.spec import Spec

Rows = NDArray[np.float64]  # [h, entries]: steps of a chunk
PAST = ("_last", "_target", "_here", "_held", "_motion", "_grip", "_way")  # what an action that leaves changes
HELD_BACK = {"stale": "stale, {age:.1f} s old", "not finite": "the actions are not finite"}
"""Why an action does not leave, whatever the mode: key of ``Limits.counts`` -> what is told."""


class Limits(Bounds):
    """The outputs of one robot: its bounds, and the actions that have left.

    Attributes:
        counts: how often an action was changed, by the reason.
    """

    def __init__(self, spec: Spec, config: LimitsConfig | None = None, seen: Seen | None = None, rate: float = 10.0):
        config = config or LimitsConfig()
        super().__init__(spec, config, seen or Seen(), rate)
        self._paired, self._felt = list(self.pairs), list(self.pairs.values())
        self.counts: Counter[str] = Counter()
        self._grip = np.clip(np.full(len(spec.actions), config.gripper), self.low, self.high)[self.grippers]
        self._held: Vector | None = None
        self.reset()

    def reset(self, placed: bool = False) -> None:
        """Forget the motion; what grippers were told last is kept, and, if ``placed``, where absolute actions would
        hold, until the robot is measured.
        """
        self._held = self._place() if placed else None
        self._last: Vector | None = None
        self._measured: Vector | None = None  # the paired entries of the state
        self._here: Vector | None = None  # the same, if nothing has left since
        self._target: Vector | None = None  # where they were told to be
        self._motion = np.zeros(len(self.pairs))  # of the last action, in units of the state
        self._way = 0.0  # that the robot was told to go since ``way`` was asked
        self._past: list[Any] = []  # before what has left last
        self._again: Callable[[int], Any] = lambda steps: None  # lets so many steps of that leave

    def measure(self, state: NDArray[np.floating], age: float = 0.0) -> None:
        """Where the robot is: its sound state. What was commanded and is not yet seen counts as on its way.

        Args:
            age: steps since the state was captured. One that is a step old or older tells no place to hold: what has
                left since is not in it.
        """
        self._measured = measured = np.asarray(state, np.float64)[self._felt]
        self._here = measured if age < 1 else None
        if self._target is None:
            self._target, self._held = measured, None
        else:
            reach = (1 + max(0.0, age)) * np.abs(self._motion)
            self._target = measured + np.minimum(np.maximum(self._target - measured, -reach), reach)

    def way(self) -> float:
        """How far the robot was told to go since this was last asked, in units of its position; in those of the action
        where the former are not known.
        """
        way, self._way = self._way, 0.0
        return way

    def apply(self, actions: Any, slow: bool = False, execute: int | None = None) -> NDArray[np.float32]:
        """The nearest allowed actions on the way from standing still to ``actions``. Standing still, if that is no
        array of finite numbers: of a chunk with one that is not, nothing is believed.

        Args:
            actions: ``[a]``, or a chunk ``[h, a]``, as the policy says.
            slow: the robot is degraded.
            execute: steps of the chunk after which the next one comes; what follows them may never be done, and does
                not count. All of them when omitted.
        """
        self._remember(lambda steps: self.apply(actions, slow, steps))
        wanted, steps = as_chunk(actions, len(self.low)), steps_of(actions)
        done = len(wanted) if execute is None else min(execute, len(wanted))
        if not np.isfinite(wanted).all():
            return self.hold("not finite", steps, done)
        if (slow and not self.can_slow) or (self.needs_position and self._target is None):
            return self.hold("held", steps, done)
        before = self._motion, self._target
        sent = np.clip(wanted, self.low, self.high)
        self._noted("limits", wanted[:done], sent[:done])
        if slow and self.delta:
            most, rest = self.config.degraded_speed * self.rest_reach, sent[:, self.rest]
            sent[:, self.rest] = np.clip(rest, -most, most)
            self._noted("slowed", rest[:done], sent[:done, self.rest])
        if self.scale is not None:
            sent[:, self._paired] = self._move(sent[:, self._paired], self.scale, slow, done)
        if not np.isfinite(sent).all():  # the last line of defence: no setting and no measurement should lead here
            self._motion, self._target = before
            return self.hold("not finite", steps, done)
        if done:
            self._held = None
            self._way += self._length(sent[:done])
        return self._sent(sent, steps, done)

    def executed(self, steps: int) -> None:
        """Of what has left last, only so many ``steps`` were executed, and nothing was measured since: only these count
        for the motion, the place to hold and the gripper. 0: it never reached the robot, which has held meanwhile where
        it was told to be before.
        """
        if self._past:
            for name, value in zip(PAST, self._past, strict=True):
                setattr(self, name, value)
            counts = self.counts.copy()  # of what has left
            self._again(steps)
            self.counts = counts
            self._here = self._here if steps else None

    def told(self, action: Any) -> None:
        """Before anything has left: the action ``[a]`` that the robot was told last, by somebody else. Its grippers are
        kept, within the limits; what is no array of finite numbers, or of another length, says nothing.
        """
        rows = as_chunk(action, len(self.low))
        if steps_of(action) is None and np.isfinite(rows).all():
            self._grip = np.clip(rows[0], self.low, self.high)[self.grippers]

    def still(self) -> NDArray[np.float32]:
        """Standing still, ``[a]``: no motion, or the place where the robot was when it began to hold: as measured, or,
        if something has left since, where it was told to be after the steps that count as executed. Grippers are kept.

        Raises:
            RuntimeError: absolute actions, and nothing was ever measured: there is no place to hold.
        """
        return self._still().astype(np.float32)

    def hold(self, why: str = "held", steps: int | None = None, done: int = 1) -> NDArray[np.float32]:
        """``still``, from now on: ``[a]``, or ``[steps, a]`` of which ``done`` will be. Raises as ``still``."""
        self._remember(lambda again: self.hold(why, steps, min(again, 1 if steps is None else steps)))
        held = self._still()
        self.counts[why] += done
        if done:
            if not self.delta:
                self._held = held.copy()
            self._motion = np.zeros(len(self.pairs))
        return self._sent(np.tile(held, (1 if steps is None else steps, 1)), steps, done)

    def _still(self) -> Vector:
        held = np.zeros(len(self.low)) if self.delta else self._place()
        if held is None:
            raise RuntimeError("nothing sound was measured yet, so there is no place to hold; send a sound state")
        held[self.grippers] = self._grip
        return np.clip(held, -LARGEST, LARGEST)

    def _place(self) -> Vector | None:
        """Always the same while it holds: a place that follows the measured one would sink with the arm. Not where it
        was measured if something has left since: that may be many steps ago, and the way back there is a motion.
        """
        if self._held is not None:
            return self._held.copy()
        if self._target is None or self.scale is None or (self.rest and self._last is None):
            return None
        place = np.zeros(len(self.low)) if self._last is None else self._last.copy()
        if self._last is None or self._here is not None:
            place[self._paired] = (self._target if self._here is None else self._here) / self.scale
        return place

    def _move(self, actions: Rows, scale: Vector, slow: bool, done: int) -> Rows:
        """The paired entries ``[h, p]``, within the limits of their motion in units of the state."""
        told, begin = scale * actions, np.zeros(len(scale)) if self._target is None else self._target
        places = np.vstack([begin, told])
        if self.delta:
            places = places.cumsum(axis=0)
        motions = np.vstack([self._motion, told if self.delta else np.diff(places, axis=0)])
        table = self._limited(motions[1:].copy(), motions[:-1], places[:-1], slow)
        for i in range(_first_change(table), len(told)):  # from there on, each step depends on the one before
            wanted = told[i] if self.delta else told[i] - places[i]
            for name, motion in self._limited(wanted, motions[i], places[i], slow).items():
                table[name][i] = motions[i + 1] = motion
            places[i + 1] = places[i] + motions[i + 1]
        for (_, before), (name, after) in pairwise(table.items()):
            self._noted(name, before[:done], after[:done])
        self._motion = motions[done]
        self._target = None if self._target is None else places[done]
        return (motions if self.delta else places)[1:] / scale

    def _length(self, sent: Rows) -> float:
        """Of the way along these steps; of all entries but grippers where the units of the position are not known."""
        entries = self._paired if self.scale is not None else np.setdiff1d(np.arange(sent.shape[1]), self.grippers)
        steps = sent
        if not self.delta:
            steps = np.diff(sent, axis=0, prepend=sent[:1] if self._last is None else self._last[None])
        return float(np.linalg.norm(steps[:, entries] * (1.0 if self.scale is None else self.scale), axis=1).sum())

    def _limited(self, motion: Rows, before: Rows, start: Rows, slow: bool) -> dict[str, Rows]:
        """What each limit leaves of a motion, or of several, one limit after the other.

        Args:
            before: the motion before it.
            start: where it was told to be.
        """
        config, found = self.config, {"wanted": motion}
        if config.max_acceleration is not None:
            room = config.max_acceleration / self.rate**2
            motion = np.maximum(motion, np.minimum(before, 0) - room)
            found["acceleration"] = motion = np.minimum(motion, np.maximum(before, 0) + room)
        if config.max_speed is not None:
            found["speed"] = motion = shrunk(motion, config.max_speed / self.rate)
        if slow:
            found["slowed"] = motion = shrunk(motion, config.degraded_speed * self.reach)
        if self.box is not None:
            found["box"] = self._boxed(motion, start, *self.box)
        return found

    def _boxed(self, motion: Rows, start: Rows, low: Vector, high: Vector) -> Rows:
        """Neither from where it was told to be nor from where it is does a delta leave the box. Who is outside may come
        back, not go further.
        """
        for place in (start, self._measured) if self.delta and self._measured is not None else (start,):
            motion = np.minimum(np.maximum(motion, np.minimum(low - place, 0)), np.maximum(high - place, 0))
        return motion

    def _noted(self, what: str, before: Rows, after: Rows) -> None:
        self.counts[what] += int((np.abs(after - before) > TOLERANCE).any(axis=1).sum())

    def _remember(self, again: Callable[[int], Any]) -> None:
        self._past, self._again = [getattr(self, name) for name in PAST], again

    def _sent(self, actions: Rows, steps: int | None, done: int) -> NDArray[np.float32]:
        actions = np.clip(actions, -LARGEST, LARGEST)
        if done:
            last = self._last = actions[done - 1]
            self._grip, self._here = last[self.grippers], None
        return actions.astype(np.float32) if steps is not None else actions[0].astype(np.float32)


def steps_of(actions: Any) -> int | None:
    """The length of a chunk; None for a single action, or what is none."""
    return len(actions) if isinstance(actions, np.ndarray) and actions.ndim == 2 else None


def as_chunk(actions: Any, entries: int) -> Rows:
    """``[h, entries]``, of a single action with h = 1; not a number where it has another shape or no numbers."""
    numbers = isinstance(actions, np.ndarray) and actions.dtype.kind in "fiu"
    if numbers and actions.ndim in (1, 2) and actions.shape[-1] == entries:
        return np.atleast_2d(actions).astype(np.float64)
    return np.full((steps_of(actions) or 1, entries), np.nan)


def _first_change(table: dict[str, Rows]) -> int:
    """The first row that a limit has changed; the number of rows where there is none."""
    *_, last = table.values()
    changed = (last != table["wanted"]).any(axis=1)
    return int(changed.argmax()) if changed.any() else len(changed)


def shrunk(motion: Rows, most: Vector | float) -> Rows:
    """The same direction, so short that no entry is beyond ``most``."""
    beyond = np.abs(motion) / np.maximum(most, TOLERANCE)
    return motion / np.maximum(1.0, beyond.max(axis=-1, initial=0.0, keepdims=True))
