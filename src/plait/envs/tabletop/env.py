"""The gymnasium environment: arguments, observations, instructions and the record of what happened."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plait.config import unknown
from plait.envs.interface import Result, clipped, instruction_option, observation_space, pixels
from plait.envs.rendering import QUALITIES, settings
from plait.envs.tabletop.experts import Expert
from plait.envs.tabletop.instructions import LANGUAGES, sentences
from plait.envs.tabletop.scene import OBJECTS, RATE, STILL, Layout, Scene
from plait.envs.tabletop.tasks import FAMILIES, HORIZONS, MIXED, sample, succeeded
from plait.envs.tabletop.vocabulary import COMBINATIONS, VOCABULARIES
from plait.spec import Spec

INSTRUCTIONS = ("normal", "exchanged", "absent", "paraphrase", "unknown_words")
CAMERAS = ("front", "wrist")
VIDEO_SIZE = (480, 640)  # (height, width)
FLASH = 8  # control steps: twice as long as a policy of default settings executes between two looks
HELD = 2  # control steps in a row for which the goal must be met


class Tabletop(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """A parallel-jaw gripper over a table with four objects, told in words what to do.

    Action, 7 numbers in [-1, 1]: movement along x, y, z (1 = 10 mm), rotation about x, y, z (1 = 0.1 rad), gripper
    (positive closes). State: position (m), axis-angle (rad), two fingers (m, 0 = closed). 10 steps per second.
    An episode ends at success (reward 1) or at its family's horizon. In ``recall``, a lamp shows a colour at first; the
    hand stays where it is until the lamp is dark, whatever the action, so that its pose cannot tell the colour later.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": int(RATE)}  # noqa: RUF012
    instructions = INSTRUCTIONS

    def __init__(
        self,
        family: str = "pick",
        vocabulary: str = "small",
        combinations: str = "seen",
        language: str = "en",
        cameras: str | Sequence[str] = CAMERAS,
        size: int | Sequence[int] = 64,
        quality: str = "fast",
        render_mode: str | None = "rgb_array",
        flash: int = FLASH,
    ) -> None:
        """
        Args:
            family: what is asked for; ``"mixed"`` draws pick, place, push or stack in each episode.
            vocabulary: ``"small"`` (4 colours x 3 shapes), ``"medium"`` (6 x 3) or ``"large"`` (8 x 5).
            combinations: ``"seen"``: no held-out pair of colour and shape is in the scene; ``"unseen"``: the target is
                one; ``"distractor"``: held-out pairs may lie there but are never named; ``"all"``: any.
            language: of the instructions; ``"mixed"`` draws English or Korean.
            cameras: some of ``"front"`` and ``"wrist"``; none for the state alone.
            size: of the pictures in pixels, (height, width) or one number for both.
            quality: ``"smooth"`` smooths edges, ``"full"`` adds shadows, and takes about ten times as long.
            flash: control steps for which the lamp of ``"recall"`` shows a colour; a multiple of those that a policy
                executes between two looks, so that it looks in the light, then in the dark.

        Raises:
            ValueError: a value that is not among these.
        """
        cameras = (cameras,) if isinstance(cameras, str) else tuple(cameras)
        for what, value, options in (
            ("family", family, (*FAMILIES, "mixed")),
            ("vocabulary", vocabulary, VOCABULARIES),
            ("combinations", combinations, COMBINATIONS),
            ("language", language, LANGUAGES),
            ("quality", quality, QUALITIES),
            ("render_mode", render_mode or "rgb_array", self.metadata["render_modes"]),
            *(("camera", camera, CAMERAS) for camera in cameras),
        ):
            if value not in options:
                raise unknown(what, value, options)
        if not isinstance(flash, int) or flash < 1:
            raise ValueError(f"flash: {flash!r} is not a number of control steps; at least 1")
        self.render_mode, self._flash = render_mode, flash
        self.embodiment = _embodiment(cameras, pixels(size))
        self.action_space = spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = observation_space(self.embodiment)
        self._families = MIXED if family == "mixed" else (family,)
        self._vocabulary = VOCABULARIES[vocabulary]
        self._combinations, self._language, self._quality = combinations, language, quality
        self._scene = Scene()

    @property
    def horizon(self) -> int | dict[str, int]:
        """Control steps after which an episode ends; of each family where they are mixed."""
        steps = {family: self._limit(family) for family in self._families}
        return steps if len(steps) > 1 else steps[self._families[0]]

    @property
    def rendering(self) -> dict[str, Any]:
        """How pictures are drawn, for protocols."""
        return {"quality": self._quality, **settings(self._quality)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out a new scene. It depends on the seed alone; ``options`` change only what is asked for.

        Args:
            options: ``{"instruction": ...}``: ``"normal"``; ``"exchanged"``, about another object of the scene;
                ``"absent"``, no words, the goal of ``"normal"``; ``"paraphrase"`` or ``"unknown_words"``, the goal of
                ``"normal"`` in sentences that training never has. ``"number"``, the episode's, changes nothing.

        Raises:
            ValueError: an unknown option.
        """
        super().reset(seed=seed)
        instruction = instruction_option(options or {}, self.instructions)
        self._task = sample(self.np_random, self._families, self._vocabulary, self._combinations)
        chance = self.np_random.random()
        self._goal = self._task.exchanged if instruction == "exchanged" else self._task.goal
        self._instruction = "" if instruction == "absent" else self._word(instruction, chance)
        self._scene.arrange(self._task.layout)
        self._starts = [self._scene.place(i).copy() for i in range(OBJECTS)]
        self._seen: dict[str, list[int]] = {"touched": [], "lifted": [], "moved": []}
        self._steps = self._achieved = 0
        self._phase = "approach"
        return self._observation(), self._info()

    def step(self, action: NDArray[np.floating]) -> Result:
        return self.advance(np.asarray(action)[None])

    def advance(self, actions: NDArray[np.floating]) -> Result:
        """Up to k control steps, ``actions`` ``[k, 7]``, until the episode ends; draws pictures only after the last.

        Returns:
            what ``step`` returns; ``info["steps"]`` is the number of executed steps.

        Raises:
            ValueError: another shape, or a number that is not finite.
        """
        executed = 0
        for action in clipped(actions, 7):
            self._scene.step(STILL if self._scene.lit else action)
            self._watch()
            executed += 1
            if self._is_success or self._is_late:
                break
        success = self._is_success
        return self._observation(), float(success), success, self._is_late and not success, self._info(executed)

    def expert(self) -> Expert:
        """A scripted demonstrator."""
        return Expert(self._scene, self._task.layout, self._goal)

    @property
    def layout(self) -> Layout:
        """Where everything was at the start of the episode."""
        return self._task.layout

    def masks(self) -> dict[str, dict[str, NDArray[np.bool_]]]:
        """Camera -> name of each object -> bool ``[height, width]``, where the observation's picture shows it now."""
        names, segments = self._task.layout.names, self._scene.segment(self.embodiment.cameras)
        return {camera: {name: numbers == i for i, name in enumerate(names)} for camera, numbers in segments.items()}

    def render(self) -> NDArray[np.uint8] | None:
        """``uint8 [480, 640, 3]``, from the front camera; None when ``render_mode`` is None."""
        return self._scene.draw({"front": VIDEO_SIZE}, self._quality)["front"] if self.render_mode else None

    @property
    def _is_success(self) -> bool:
        return self._achieved >= HELD

    @property
    def _is_late(self) -> bool:
        return self._steps >= self._limit(self._task.family)

    def _limit(self, family: str) -> int:
        return HORIZONS[family] + (self._flash if family == "recall" else 0)

    def _watch(self) -> None:
        """Keep the record of this control step: what was touched, lifted and moved so far, and the phase."""
        touched = self._scene.touched()
        lifts = [self._scene.place(i) - start for i, start in enumerate(self._starts)]
        now = {
            "touched": touched,
            "lifted": [i for i, offset in enumerate(lifts) if offset[2] > 0.03],
            "moved": [i for i, offset in enumerate(lifts) if np.linalg.norm(offset) > 0.02],
        }
        for name, objects in now.items():
            self._seen[name] += [i for i in objects if i not in self._seen[name]]
        if touched:
            self._phase = "transport" if set(touched) & set(self._seen["moved"]) else "grasp"
        else:
            self._phase = "release" if self._seen["moved"] else "approach"
        self._steps += 1
        if self._steps == self._flash:
            self._scene.light(None)
        done = succeeded(self._scene, self._task.layout, self._goal, touched)
        self._achieved = self._achieved + 1 if done else 0

    def _word(self, instruction: str, chance: float) -> str:
        wording = instruction if instruction in ("paraphrase", "unknown_words") else "train"
        goal, pairs = self._goal, self._task.layout.pairs
        reference = None if goal.reference is None else pairs[goal.reference]
        ways = sentences(self._language, goal.kind, wording, pairs[goal.target], reference, goal.where)
        return ways[int(chance * len(ways))]

    def _observation(self) -> dict[str, Any]:
        pictures = self._scene.draw(self.embodiment.cameras, self._quality)
        images = {f"observation.images.{camera}": picture for camera, picture in pictures.items()}
        return {**images, "observation.state": self._scene.state()}

    def _info(self, executed: int = 0) -> dict[str, Any]:
        """``touched``, ``lifted`` and ``moved`` name every object to which that happened so far, in that order."""
        names = self._task.layout.names
        return {
            "task": self._instruction,
            "is_success": self._is_success,
            "family": self._task.family,
            "split": "unseen" if self._task.layout.pairs[self._goal.target] in self._vocabulary.held_out else "seen",
            "target": names[self._goal.target],
            "first_named": names[self._task.goal.target],
            **{what: ",".join(names[i] for i in objects) for what, objects in self._seen.items()},
            "phase": self._phase,
            "steps": executed,
        }


def _embodiment(cameras: tuple[str, ...], size: tuple[int, int]) -> Spec:
    return Spec(
        cameras={camera: size for camera in cameras},
        state=("x", "y", "z", "rx", "ry", "rz", "left_finger", "right_finger"),
        actions=("x", "y", "z", "rx", "ry", "rz", "gripper"),
        action_low=(-1.0,) * 7,
        action_high=(1.0,) * 7,
        state_units=("m",) * 3 + ("rad",) * 3 + ("m",) * 2,
        action_units=("10 mm",) * 3 + ("0.1 rad",) * 3 + ("sign",),
        action_kind="delta",
        rotation="axis_angle",
        gripper="positive_closes",
        rate=RATE,
    )
