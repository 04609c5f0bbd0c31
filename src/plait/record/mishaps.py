"""What makes a demonstration go wrong for a moment, so that it also shows the way back.

Demonstrations that never go wrong do not teach how to come back (DART, https://arxiv.org/abs/1703.09327). What is
recorded stays the expert's own action. Short mishaps with rests between them rather than steady noise: in the rests the
expert can do what needs precision.
"""

import numpy as np
from numpy.typing import NDArray

from plait.spec import Spec

PUSH_CHANCE, PUSH_STEPS = 1 / 40, 6  # that a push begins in a step, and how long it lasts
SLIP_STEPS = 8

Action = NDArray[np.float32]


class Pushes:
    """Now and then the arm is pushed along x, y, z for some steps.

    Args:
        strength: the most that is added to each of x, y, z, in action units.
        seed, attempt: the pushes of an attempt at an episode follow from these alone.
    """

    def __init__(self, spec: Spec, strength: float, seed: int, attempt: int = 0) -> None:
        self._strength, self._rng = strength, np.random.default_rng([seed, attempt] if attempt else seed)
        self._moved = [index for index, name in enumerate(spec.actions) if name in ("x", "y", "z")]
        self._push, self._left = np.zeros(len(self._moved)), 0

    def __call__(self, action: Action) -> Action:
        """What is executed in place of the next action."""
        begins, push = self._rng.random() < PUSH_CHANCE, self._rng.uniform(-1, 1, len(self._moved))
        if not self._strength:
            return action
        if self._left:
            self._left -= 1
        else:
            self._push, self._left = (push * self._strength, PUSH_STEPS - 1) if begins else (0 * push, 0)
        executed = action.copy()
        executed[self._moved] = np.clip(executed[self._moved] + self._push, -1, 1)
        return executed


class Slips:
    """Now and then the fingers open for some steps while the expert closes them: what was held has to be fetched again.

    Args:
        chance: that they begin to open in a step in which they close.
        seed, attempt: the slips of an attempt at an episode follow from these alone.

    Raises:
        ValueError: the robot has no gripper, or nobody says which sign closes it.
    """

    def __init__(self, spec: Spec, chance: float, seed: int, attempt: int = 0) -> None:
        self._chance, self._rng, self._left = chance, np.random.default_rng([seed, attempt, 1]), 0
        if not chance:
            return
        closing = {"positive_closes": 1.0, "positive_opens": -1.0}.get(spec.gripper or "")
        if "gripper" not in spec.actions or closing is None:
            rule = f"gripper {spec.gripper!r}, actions {', '.join(spec.actions)}"
            raise ValueError(f"slips: {chance}, but this robot has no gripper that could slip ({rule}); leave them out")
        self._gripper, self._closing = spec.actions.index("gripper"), closing

    def __call__(self, wanted: Action, executed: Action) -> Action:
        """What is executed in place of ``executed`` where the expert wanted ``wanted``."""
        begins = self._rng.random() < self._chance
        if self._left:
            self._left -= 1
        elif begins and wanted[self._gripper] * self._closing > 0:
            self._left = SLIP_STEPS
        if not self._left:
            return executed
        executed = executed.copy()
        executed[self._gripper] = -self._closing
        return executed
