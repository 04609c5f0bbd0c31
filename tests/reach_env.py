"""A foreign gymnasium environment, small and fast: move a point to the side that the words name.

Its id is ``reach_env:Reach-v0``, so that worker processes find it by importing this file.
"""

import os

import gymnasium
import numpy as np
from gymnasium import spaces

from plait.spec import Spec

ID = "reach_env:Reach-v0"
REACH = Spec(cameras={"top": (16, 16)}, state=("place", "steps"), actions=("move",), rate=5.0)
HORIZON = 12


class Reach(gymnasium.Env):
    def __init__(self, fail: str = "", fail_seed: int = -1) -> None:
        self.fail, self.fail_seed = fail, fail_seed
        image, state = spaces.Box(0, 255, (16, 16, 3), np.uint8), spaces.Box(-9, 9, (2,), np.float32)
        self.observation_space = spaces.Dict({"observation.images.top": image, "observation.state": state})
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.steps = seed, 0
        self.side = int(self.np_random.integers(2)) * 2 - 1
        self.place = np.float32(self.np_random.uniform(-0.2, 0.2))
        self.words = "" if (options or {}).get("instruction") == "absent" else f"go {['left', 'right'][self.side > 0]}"
        return self._observation(), {"task": self.words}

    def step(self, action):
        if self.seed == self.fail_seed and self.steps == 3:
            if self.fail == "die":
                os._exit(7)
            raise ArithmeticError("the point has left the plane")
        self.steps += 1
        self.place += 0.3 * np.float32(action[0])
        there = bool(self.place * self.side > 1)
        return self._observation(), float(there), there, self.steps >= HORIZON, {"is_success": there}

    def _observation(self):
        image = np.full((16, 16, 3), 60 * self.steps % 256, np.uint8)
        return {"observation.images.top": image, "observation.state": np.array([self.place, self.steps], np.float32)}


gymnasium.register("Reach-v0", Reach)
