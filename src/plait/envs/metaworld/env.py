"""The gymnasium environment: arguments, observations, instructions, and which task an episode shows."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plait.config import unknown
from plait.envs.interface import Result, clipped, instruction_option, observation_space, pixels
from plait.envs.metaworld.simulation import CAMERAS, HORIZON, RATE, Expert, give_back, package, take
from plait.envs.metaworld.tasks import INSTRUCTIONS, TIER, chosen
from plait.envs.rendering import QUALITIES, Size, settings
from plait.spec import Spec

VIDEO_SIZE = (480, 480)  # (height, width)
WHOLE = (0.0, 0.0, 1.0, 1.0)
TABLE = (0.28, 0.22, 0.98, 0.92)  # hands, objects and goals of successful demonstrations: 0.31 to 0.98, 0.26 to 0.89


class MetaWorld(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """A Sawyer arm at a table does one of 50 tasks, told in one sentence which.

    Action, 4 numbers in [-1, 1]: movement along x, y, z (1 = 10 mm), gripper (positive closes). State: the hand's
    position (m), and how far the fingers are apart (1 = open). 80 steps per second. An episode ends at success
    (reward 1) or after 500 steps. Source: Meta-World, arXiv 1910.10897, in the package metaworld 3.1.1.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": int(RATE)}  # noqa: RUF012
    instructions = ("normal", "exchanged", "absent")
    horizon = HORIZON

    def __init__(
        self,
        task: str | Sequence[str] = "mt50",
        cameras: str | Sequence[str] = ("corner2",),
        size: int | Sequence[int] = 128,
        quality: str = "fast",
        render_mode: str | None = "rgb_array",
        crop: Sequence[float] = WHOLE,
    ) -> None:
        """
        Args:
            task: a task such as ``"assembly"`` or ``"assembly-v3"``; a group: ``"mt50"``, ``"easy"``, ``"medium"``,
                ``"hard"`` or ``"very_hard"``; or several of these.
            cameras: some of the package's; none for the state alone. ``"corner2"`` stands where LeRobot has it.
            size: of the pictures in pixels, (height, width) or one number for both.
            quality: ``"fast"``; ``"smooth"`` smooths edges; ``"full"`` is the package's own, with shadows and
                reflections as well.
            crop: (left, top, right, bottom), the part of every picture that ``size`` pixels show, in shares of its
                sides. ``TABLE`` is where all 50 tasks take place in ``corner2``.

        Raises:
            ValueError: a value that is not among these, or the package metaworld is not installed.
        """
        cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        for what, value, options in (
            ("quality", quality, QUALITIES),
            ("render_mode", render_mode or "rgb_array", self.metadata["render_modes"]),
            *(("camera", camera, CAMERAS) for camera in cameras),
        ):
            if value not in options:
                raise unknown(what, value, options)
        self.tasks = chosen(task)
        package("env_dict")  # is it installed?
        self.render_mode, self._quality = render_mode, quality
        self.embodiment = _embodiment(cameras, pixels(size))
        self._drawn, self._kept = _window(pixels(size), tuple(crop))
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = observation_space(self.embodiment)
        self._simulation: Any = None  # nothing is compiled before the first reset
        self._steps, self._is_success = 0, False

    @property
    def rendering(self) -> dict[str, Any]:
        """How pictures are drawn, for protocols."""
        return {"quality": self._quality, **settings(self._quality)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out a task's scene: objects and goal stand where the seed says.

        Args:
            options: ``"number"``, the episode's, decides the task: ``tasks[number % len(tasks)]``; without it, the
                seed does. ``"instruction"``: ``"normal"``; ``"exchanged"``, the sentence of another task; or
                ``"absent"``, none.

        Raises:
            ValueError: an unknown option.
        """
        super().reset(seed=seed)
        instruction = instruction_option(options or {}, self.instructions)
        drawn, other, scene = map(int, self.np_random.integers(2**31, size=3))
        task = self.tasks[(options or {}).get("number", drawn) % len(self.tasks)]
        if self._simulation is None or self._simulation.task != task:
            self.close()
            self._simulation = take(task)
        self._simulation.reset(scene)
        words = {"normal": INSTRUCTIONS[task], "exchanged": self._exchanged(task, other), "absent": ""}
        self._instruction = words[instruction]
        self._steps, self._is_success = 0, False
        return self._observation(), self._info()

    def step(self, action: NDArray[np.floating]) -> Result:
        return self.advance(np.asarray(action)[None])

    def advance(self, actions: NDArray[np.floating]) -> Result:
        """Up to k control steps, ``actions`` ``[k, 4]``, until the episode ends; draws pictures only after the last.

        One that has ended by success may be gone on with, a step at a time, until the horizon.

        Returns:
            what ``step`` returns; ``info["steps"]`` is the number of executed steps.

        Raises:
            ValueError: another shape, a number that is not finite, or no episode is running.
        """
        if self._simulation is None or self._steps == HORIZON:
            raise ValueError("metaworld: no episode is running; call reset first")
        executed = 0
        for action in clipped(actions, 4):
            self._is_success = self._simulation.step(action)
            self._steps, executed = self._steps + 1, executed + 1
            if self._is_success or self._steps == HORIZON:
                break
        late = self._steps == HORIZON
        return self._observation(), float(self._is_success), self._is_success, late, self._info(executed)

    def expert(self) -> Expert:
        """The package's demonstrator."""
        return Expert(self._simulation)

    def render(self) -> NDArray[np.uint8] | None:
        """``uint8 [480, 480, 3]``, from ``corner2``; None when ``render_mode`` is None."""
        return self._simulation.draw({"corner2": VIDEO_SIZE}, self._quality)["corner2"] if self.render_mode else None

    def close(self) -> None:
        """Another environment of this process may go on with what was compiled."""
        if self._simulation is not None:
            give_back(self._simulation)
        self._simulation = None

    def _exchanged(self, task: str, chance: int) -> str:
        """The sentence of another of these tasks; of any task, where these share one sentence."""
        for tasks in (self.tasks, INSTRUCTIONS):
            others = sorted({INSTRUCTIONS[other] for other in tasks} - {INSTRUCTIONS[task]})
            if others:
                return others[chance % len(others)]
        raise AssertionError("there are 49 sentences")

    def _observation(self) -> dict[str, Any]:
        pictures = self._simulation.draw(dict.fromkeys(self.embodiment.cameras, self._drawn), self._quality)
        kept = {camera: np.ascontiguousarray(picture[self._kept]) for camera, picture in pictures.items()}
        images = {f"observation.images.{camera}": picture for camera, picture in kept.items()}
        return {**images, "observation.state": self._simulation.state}

    def _info(self, executed: int = 0) -> dict[str, Any]:
        task = self._simulation.task
        names = {"task": self._instruction, "task_name": task, "tier": TIER[task]}
        return {**names, "is_success": self._is_success, "steps": executed}


def _window(size: Size, crop: tuple[float, ...]) -> tuple[Size, tuple[slice, slice]]:
    """The size of whole pictures of which ``crop`` has ``size`` pixels, and where these are."""
    if len(crop) != 4 or not (0 <= crop[0] < crop[2] <= 1 and 0 <= crop[1] < crop[3] <= 1):
        rule = "0 <= left < right <= 1 and 0 <= top < bottom <= 1"
        what = "give left, top, right and bottom in shares of the picture"
        raise ValueError(f"crop: {crop}; {what}, {rule}, such as {TABLE}")
    left, top, right, bottom = crop
    whole = round(size[0] / (bottom - top)), round(size[1] / (right - left))
    first = min(round(top * whole[0]), whole[0] - size[0]), min(round(left * whole[1]), whole[1] - size[1])
    return pixels(whole), (slice(first[0], first[0] + size[0]), slice(first[1], first[1] + size[1]))


def _embodiment(cameras: tuple[str, ...], size: tuple[int, int]) -> Spec:
    return Spec(
        cameras={camera: size for camera in cameras},
        state=("x", "y", "z", "gripper"),
        actions=("x", "y", "z", "gripper"),
        action_low=(-1.0,) * 4,
        action_high=(1.0,) * 4,
        state_units=("m", "m", "m", "0 = closed, 1 = open"),
        action_units=("10 mm", "10 mm", "10 mm", "effort"),
        action_kind="delta",
        rotation="none",
        gripper="positive_closes",
        rate=RATE,
    )
