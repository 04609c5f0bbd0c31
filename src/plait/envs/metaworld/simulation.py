"""One task as the package metaworld simulates it: reset from a seed, stepped, felt, drawn, and shown by its expert."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (The package is an extra; MuJoCo's names come from a compiled module without stubs.)

import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from threading import get_ident
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from plait.envs.rendering import Pictures, Renderer, Size

HORIZON = 500  # control steps, after which the package wants a reset
RATE = 80.0  # control steps per second: five of MuJoCo's of 2.5 ms
CAMERAS = ("corner2", "corner", "corner3", "topview", "behindGripper", "gripperPOV")
UPSIDE_DOWN = ("corner2", "corner", "corner3")  # as the package draws them
CORNER2 = (0.75, 0.075, 0.7)  # m: closer than the package has it; LeRobot's place

# A model takes 0.25 s to compile and 26 MB, and its textures up to 0.2 s and 35 MB: what a process has made stays, one
# simulation per task while nobody uses it, and one renderer per task, quality and thread.
_idle: dict[str, "Simulation"] = {}
_renderers: dict[tuple[str, str, int, int], Renderer] = {}


def take(task: str) -> "Simulation":
    """A simulation of the task, for the caller alone until ``give_back``."""
    return _idle.pop(task, None) or Simulation(task)


def give_back(simulation: "Simulation") -> None:
    _idle.setdefault(simulation.task, simulation)


def package(part: str) -> Any:
    """A module of the package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return import_module(f"metaworld.{part}")
    except ModuleNotFoundError as error:
        raise ValueError(f"environment 'metaworld': {error}; pip install 'plait[metaworld]'") from error


class Simulation:
    """What happened before a ``reset`` leaves no trace: the episode follows from its seed and the actions alone.

    Args:
        task: such as ``"assembly-v3"``.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self._env = env = package("env_dict").ALL_V3_ENVIRONMENTS[task]()
        env._partially_observable = False
        del env.sawyer_observation_space  # cached with a hidden goal, to which it would clip the goal that experts need
        env._set_task_called = True
        env._freeze_rand_vec, env.seeded_rand_vec = False, True  # places are drawn at reset, from the seed
        env.model.camera("corner2").pos[:] = CORNER2

    def reset(self, seed: int) -> None:
        """Lay out the objects and the goal that the seed says."""
        self._env.seed(seed)
        self._observation, _ = self._env.reset()
        mujoco.mj_kinematics(self._env.model, self._env.data)  # else some goals are drawn where they were before

    def step(self, action: NDArray[np.floating]) -> bool:
        """One control step, ``action`` ``[4]`` in [-1, 1]: is the task done?"""
        self._observation, _, _, _, info = self._env.step(action)
        return bool(info["success"])

    @property
    def state(self) -> NDArray[np.float32]:
        """``[4]``: the hand's x, y, z in m, and how far the fingers are apart (1 = open)."""
        return self._observation[:4].astype(np.float32)

    def draw(self, cameras: Mapping[str, Size], quality: str) -> Pictures:
        """Camera -> ``uint8 [height, width, 3]``, the right way up."""
        if not cameras:
            return {}
        key = self.task, quality, os.getpid(), get_ident()
        if key not in _renderers:
            _renderers[key] = Renderer(self._env.model, quality)
        pictures = _renderers[key].render(self._env.model, self._env.data, cameras)
        turned = {camera: pictures[camera][::-1, ::-1].copy() for camera in cameras if camera in UPSIDE_DOWN}
        return pictures | turned

    def advise(self, policy: Any) -> NDArray[np.float32]:
        """What a policy of the package does now, clipped to [-1, 1]."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # that its numbers are too large: they are clipped
            return np.clip(policy.get_action(self._observation), -1.0, 1.0).astype(np.float32)


class Expert:
    """The package's scripted policy for the task. ``action()`` once per control step, after ``reset``."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._policy = package("policies").ENV_POLICY_MAP[simulation.task]()

    def action(self) -> NDArray[np.float32]:
        """``[4]`` in [-1, 1]."""
        return self._simulation.advise(self._policy)
