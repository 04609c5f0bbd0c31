"""Pushes: what makes a demonstration go wrong for a moment, so that it also shows the way back."""

import numpy as np
from numpy.typing import NDArray

from plait.spec import Spec

CHANCE, STEPS = 1 / 40, 6  # that a push begins in a step, and how long it lasts


class Pushes:
    """Now and then the arm is pushed along x, y, z for some steps; what is recorded stays the expert's own action.

    Demonstrations that never go wrong do not teach how to come back (DART, https://arxiv.org/abs/1703.09327). Pushes
    with rests between them rather than steady noise: in the rests the expert can do what needs precision.

    Args:
        strength: the most that is added to each of x, y, z, in action units.
        seed, attempt: the pushes of an attempt at an episode follow from these alone.
    """

    def __init__(self, spec: Spec, strength: float, seed: int, attempt: int = 0) -> None:
        self._strength, self._rng = strength, np.random.default_rng([seed, attempt] if attempt else seed)
        self._moved = [index for index, name in enumerate(spec.actions) if name in ("x", "y", "z")]
        self._push, self._left = np.zeros(len(self._moved)), 0

    def __call__(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is executed in place of the next action."""
        begins, push = self._rng.random() < CHANCE, self._rng.uniform(-1, 1, len(self._moved))
        if not self._strength:
            return action
        if self._left:
            self._left -= 1
        else:
            self._push, self._left = (push * self._strength, STEPS - 1) if begins else (0 * push, 0)
        executed = action.copy()
        executed[self._moved] = np.clip(executed[self._moved] + self._push, -1, 1)
        return executed
