"""Scripted demonstrations. Each action follows from where things are now, never from a counter or a memory:

a policy that sees the hand, the fingers and the objects can tell which part of the movement comes next. (The expert of
``recall`` knows its target, which a policy has to remember.)
"""

import numpy as np
from numpy.typing import NDArray

from plait.envs.tabletop.scene import OPEN, STEP, STILL, Layout, Scene, Vector
from plait.envs.tabletop.tasks import DIRECTIONS, Goal, destination

HOVER = 0.075  # m, the hand's height at which open fingers pass above everything
LOWEST = 0.014  # m, the hand's height just above the table
CLEAR = 0.068  # m, the height of a carried object's lower side when it passes above others
UP = np.array([0.0, 0.0, 1.0])
FINGER = 0.012  # m, half of the closed fingers' width


class Expert:
    """Knows where everything is. ``action()`` once per control step, after ``reset``."""

    def __init__(self, scene: Scene, layout: Layout, goal: Goal) -> None:
        self._scene, self._layout, self._goal = scene, layout, goal
        self._shape = layout.shapes[goal.target]
        self._grip = max(0.0, LOWEST - self._shape.half_height)  # above its centre, where it is held

    def action(self) -> NDArray[np.float32]:
        """``[7]`` in [-1, 1]."""
        if self._scene.lit:
            return STILL.astype(np.float32)
        point, close = self._push() if self._goal.kind == "push" else self._grasp()
        movement = np.clip((point - self._scene.hand) / STEP, -1, 1)
        return np.array([*movement, 0, 0, 0, 1 if close else -1], np.float32)

    def _grasp(self) -> tuple[Vector, bool]:
        """Go above the target and down to it, close the fingers around it, carry it."""
        scene, target = self._scene, self._scene.place(self._goal.target)
        grip = target + self._grip * UP
        gap = np.abs(scene.hand - grip)
        closing = scene.fingers.min() < OPEN - 0.003
        if not self._goal.lifts and self._arrived(target):
            return scene.hand + STEP * UP, False
        if np.linalg.norm(gap[:2]) > 0.014 or gap[2] > 0.012:
            return _descend(scene.hand, grip), False
        if not closing and gap.max() > 0.004:
            return grip, False
        if not closing or scene.finger_speed > 0.01:
            return scene.hand, True
        return (scene.hand + STEP * UP, True) if self._goal.lifts else self._carry(target)

    def _carry(self, target: Vector) -> tuple[Vector, bool]:
        """Up, across and down to the destination; the fingers open there."""
        end = destination(self._scene, self._layout, self._goal)
        if self._goal.kind == "bowl":
            end = end + 0.03 * UP  # let it fall: open fingers do not fit in the bowl
        gap = end - target
        distance = float(np.linalg.norm(gap[:2]))
        if distance < 0.005 and gap[2] > -0.004:
            return self._scene.hand, False
        high = max(end[2], CLEAR + self._shape.half_height)
        gap[2] = end[2] + 0.002 + (high - end[2]) * np.clip((distance - 0.004) / 0.02, 0, 1) - target[2]
        if target[2] - self._shape.half_height < 0.03 and distance > 0.02:
            gap[:2] = 0
        return self._scene.hand + gap, True

    def _arrived(self, target: Vector) -> bool:
        """Lies where it should and the fingers have let go of it."""
        gap = destination(self._scene, self._layout, self._goal) - target
        reach = 0.05 if self._goal.kind == "bowl" else 0.015
        return bool(np.linalg.norm(gap[:2]) < reach and self._scene.fingers.min() > self._shape.half_width + 0.003)

    def _push(self) -> tuple[Vector, bool]:
        """Go to the far side of the target with closed fingers, down, and straight through it."""
        scene, target = self._scene, self._scene.place(self._goal.target)
        direction = DIRECTIONS[self._goal.where]
        radius = self._shape.half_width if direction[0] else self._shape.half_depth
        offset = scene.hand[:2] - target[:2]
        along, across = float(offset @ direction), offset - (offset @ direction) * direction
        low = min(target[2], 0.018)
        behind = along < -radius - 0.008
        sideways = float(np.linalg.norm(across))
        if scene.hand[2] < low + 0.03 and behind and sideways < 0.012:
            if scene.hand[2] > low + 0.006:
                return np.array([*scene.hand[:2], low]), True
            return np.array([*(scene.hand[:2] + STEP * direction - across), low]), True
        start = target[:2] - direction * (radius + FINGER + 0.012)
        return _descend(scene.hand, np.array([*start, low])), True


def _descend(hand: Vector, point: Vector) -> Vector:
    """A funnel: across at HOVER height, and down within 2 cm of the point."""
    distance = float(np.linalg.norm(hand[:2] - point[:2]))
    height = point[2] + max(0.0, HOVER - point[2]) * np.clip((distance - 0.003) / 0.02, 0, 1)
    across = point[:2] - hand[:2] if hand[2] > HOVER - 0.012 or distance < 0.03 else np.zeros(2)
    return np.array([*(hand[:2] + across), height])
