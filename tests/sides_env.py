"""A small and fast environment in which words, pictures and state all count; ``sides_env:Sides-v0``.

Two colours lie at the ends of a line, as every camera shows; the words name one of them, and the hand has to get there.
It tells what was reached, as the tabletop tells what was lifted.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from plait.spec import Spec

ID = "sides_env:Sides-v0"
COLOURS = ("red", "blue")
RGB = {"red": (250, 20, 20), "blue": (20, 20, 250)}
WORDS = {"normal": "go to the {} side", "exchanged": "go to the {} side", "paraphrase": "go the {} side to"}
SIZE, HORIZON, STEP = 16, 20, 0.15


def spec(cameras: Sequence[str]) -> Spec:
    return Spec({camera: (SIZE, SIZE) for camera in cameras}, ("place",), ("move",), rate=5.0)


def drawn(left: str) -> np.ndarray:
    """``[16, 16, 3]``: the colour that lies on the left, and the other one."""
    picture = np.empty((SIZE, SIZE, 3), np.uint8)
    picture[:, : SIZE // 2], picture[:, SIZE // 2 :] = RGB[left], RGB[COLOURS[left == "red"]]
    return picture


class Sides(gymnasium.Env):
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    instructions = ("normal", "exchanged", "absent", "paraphrase")

    def __init__(self, cameras: Sequence[str] = ("front",), combinations: str = "seen") -> None:
        self.embodiment = spec(cameras)
        images = {f"observation.images.{camera}": spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8) for camera in cameras}
        self.observation_space = spaces.Dict({**images, "observation.state": spaces.Box(-9, 9, (1,), np.float32)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        told, self.steps, self.reached = (options or {}).get("instruction", "normal"), 0, ""
        self.left, self.first = (COLOURS[i] for i in self.np_random.integers(2, size=2))
        self.place = np.float32(self.np_random.uniform(-0.2, 0.2))
        self.target = COLOURS[self.first == "red"] if told == "exchanged" else self.first
        self.words = WORDS.get(told, "").format(self.target)
        return self._observation(), self._info()

    def step(self, action):
        self.steps += 1
        self.place += STEP * np.clip(action[0], -1, 1)
        if abs(self.place) > 1:
            self.reached = self.left if self.place < 0 else COLOURS[self.left == "red"]
        return self._observation(), 0.0, bool(self.reached), self.steps >= HORIZON, self._info()

    def _observation(self) -> dict[str, np.ndarray]:
        images = {f"observation.images.{camera}": drawn(self.left) for camera in self.embodiment.cameras}
        return {**images, "observation.state": np.array([self.place], np.float32)}

    def _info(self) -> dict[str, Any]:
        facts = {"family": "reach", "target": self.target, "first_named": self.first, "lifted": self.reached}
        phase = "release" if self.reached else "approach"
        return {"task": self.words, "is_success": self.reached == self.target, "phase": phase, **facts}


gymnasium.register("Sides-v0", Sides)
