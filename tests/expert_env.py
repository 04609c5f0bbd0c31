"""A small and fast environment with an expert, to see how recording deals with failures; ``expert_env:Count-v0``.

The expert fails in scenes with an odd seed. ``die`` is a file: while it exists, the worker that runs a scene deletes it
and ends at once; ``stubborn`` ends every worker; ``broken`` raises; ``handless``: it has no gripper.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np

from plait.spec import Spec

ID = "expert_env:Count-v0"
HORIZON = 5


class Count(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({"observation.state": gymnasium.spaces.Box(0, 100, (1,), np.float32)})
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, die: str = "", fault: str = "") -> None:
        self.die, self.fault = die, fault
        self.embodiment = Spec({"top": (8, 8)}, ("x",), ("dx", "gripper"), rate=5.0, gripper="positive_closes")
        if fault == "handless":
            self.embodiment = replace(self.embodiment, gripper="none")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t = seed, 0
        if self.fault == "stubborn":
            os._exit(7)
        if self.fault == "broken":
            raise ArithmeticError("the spring is loose")
        if self.die:
            with suppress(FileNotFoundError):  # one worker alone deletes it
                Path(self.die).unlink()
                os._exit(7)
        return self._observation(), {"task": f"count to {HORIZON}"}

    def step(self, action):
        self.t += 1
        good = self.seed % 2 == 0 and self.fault != "hopeless"
        return self._observation(), 0.0, self.t == HORIZON, False, {"is_success": good}

    def expert(self):
        return self

    def action(self):
        return np.array([self.t / 10, 1.0], np.float32)

    def _observation(self):
        image = np.full((8, 8, 3), self.t, np.uint8)
        return {"observation.images.top": image, "observation.state": np.array([self.seed % 100], np.float32)}


gymnasium.register("Count-v0", Count)
