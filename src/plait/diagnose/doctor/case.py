"""What is examined: a dataset, and where there are, its environment and a policy. Checks look at samples of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np

from plait import envs
from plait.data.keys import STATE
from plait.data.lerobot import Dataset
from plait.data.tables import EpisodeRow
from plait.evaluate.protocol import embodiment
from plait.policy import Policy
from plait.record.demonstration import DemonstrationConfig
from plait.spec import Spec

FILMS = 12  # episodes of which pictures are read
FRAMES = 24  # pictures of each of them and of each camera, at most
FIRST = 48  # episodes whose first pictures are compared with each other
SCENES = 24  # episodes whose scene is laid out again
REPLAYS = 5  # episodes whose actions are executed again


@dataclass(frozen=True)
class Scene:
    """An episode whose scene the environment can lay out again."""

    row: EpisodeRow
    seed: int
    number: int
    attempt: int = 0

    def reset(self, env: gymnasium.Env) -> tuple[dict[str, Any], dict[str, Any]]:
        return env.reset(seed=self.seed, options={"number": self.number})


@dataclass(frozen=True)
class Pair:
    """What is both felt and commanded: its name, its place in the state, and its place in the action."""

    name: str
    felt: int
    commanded: int


@dataclass(frozen=True)
class Case:
    """A dataset, its environment and a policy.

    Attributes:
        env: None when there is none; ``no_env`` says why.
        simulator: the same, without pictures where it can do without: for executing actions.
    """

    dataset: Dataset
    env: gymnasium.Env | None = None
    no_env: str = "no environment (--env) is given"
    policy: Policy | None = None
    simulator: gymnasium.Env | None = None

    @property
    def spec(self) -> Spec:
        return self.dataset.spec

    @cached_property
    def env_spec(self) -> Spec | None:
        return None if self.env is None else embodiment(self.env, self.spec)

    @cached_property
    def shown(self) -> DemonstrationConfig:
        """How scenes were shown while plait recorded; undisturbed where it did not."""
        return DemonstrationConfig.of(self._arguments)

    @cached_property
    def action(self) -> np.ndarray:
        """``[n, a]``."""
        return self.dataset.action.numpy().astype(np.float64)

    @cached_property
    def state(self) -> np.ndarray:
        """``[n, s]``; ``s`` is 0 where there is no state."""
        state = self.dataset.state
        return np.zeros((len(self.dataset), 0)) if state is None else state.numpy().astype(np.float64)

    @cached_property
    def finite(self) -> np.ndarray:
        """bool ``[n]``: the frames whose numbers all are."""
        return np.isfinite(np.hstack([self.action, self.state]).sum(axis=1))

    @cached_property
    def sound(self) -> list[EpisodeRow]:
        """The episodes whose numbers are all finite."""
        return [row for row in self.dataset.episodes if self.finite[span(row)].all()]

    def sample(self, count: int) -> list[EpisodeRow]:
        """``count`` sound episodes, evenly spaced over the dataset; all where there are fewer."""
        return spaced(self.sound, count)

    @cached_property
    def followed(self) -> list[Pair]:
        """Entries that are both felt and commanded and that move: x, y and z, or where there are none, any others."""
        felt, commanded = still(self.state[self.finite]), still(self.action[self.finite])
        moving = [pair for pair in pairs(self.spec) if not felt[pair.felt] and not commanded[pair.commanded]]
        return [pair for pair in moving if last_part(pair.name) in ("x", "y", "z")] or moving

    @cached_property
    def scenes(self) -> list[Scene]:
        """A sample of the episodes, each with its scene; [] where ``no_scenes`` has a reason."""
        extras = {extra["episode_index"]: extra for extra in self.dataset.extras() if "seed" in extra}
        if self._elsewhere:
            return []
        rows = spaced([row for row in self.sound if row.index in extras], SCENES)
        told = [(row, extras[row.index]) for row in rows]
        return [Scene(row, x["seed"], x.get("scene", row.index), x.get("attempt", 0)) for row, x in told]

    @property
    def no_scenes(self) -> str:
        """Why no scene can be laid out again; "" when it can."""
        unknown = "the dataset does not say from which seeds its scenes come (those that plait records do)"
        if self._elsewhere:
            unknown = f"the scenes are those of another environment, {self._elsewhere!r}"
        return self.no_env if self.env is None else "" if self.scenes else unknown

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        """Those of the recording; {} where plait did not record."""
        return self.dataset.provenance().get("arguments", {})

    @property
    def _elsewhere(self) -> str:
        """The environment of the recording, where that is another one; its seeds mean nothing here."""
        recorded = self._arguments.get("env", "")
        here = self.env.spec.id if self.env is not None and self.env.spec else ""
        return recorded if recorded and here != envs.ALIASES.get(recorded, recorded) else ""

    @cached_property
    def starts(self) -> list[tuple[Scene, dict[str, Any], dict[str, Any]]]:
        """Each scene with the environment's first observation and info of it."""
        return [(scene, *scene.reset(self.env)) for scene in self.scenes] if self.env else []

    def films(self) -> Iterator[tuple[EpisodeRow, np.ndarray, dict[str, np.ndarray]]]:
        """Of a sample of episodes: the numbers of some frames, evenly spaced, and each camera's pictures of them.

        Raises:
            ValueError: a picture is missing or broken.
        """
        for row in self.sample(FILMS):
            indices = np.array(spaced(range(row.start, row.start + row.length), FRAMES))
            yield row, indices, {camera: self.pictures(camera, indices) for camera in self.spec.cameras}

    def pictures(self, camera: str, indices: Any) -> np.ndarray:
        return self.dataset.images(camera, indices).numpy()


def span(row: EpisodeRow) -> slice:
    """Its frames in the dataset."""
    return slice(row.start, row.start + row.length)


def spaced(values: Any, count: int) -> list[Any]:
    """``count`` of the values, evenly spaced, first and last included."""
    places = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int))
    return [values[place] for place in places]


def observed_state(observation: dict[str, Any]) -> np.ndarray:
    """What an environment's observation says of the state; empty where it has none."""
    return np.asarray(observation.get(STATE, ()), np.float64)


def pairs(spec: Spec) -> list[Pair]:
    """Entries of the same name, or x, y and z of the hand whatever stands before the letter; grippers are left out."""
    same = [Pair(name, spec.state.index(name), i) for i, name in enumerate(spec.actions) if name in spec.state]
    felt, commanded = spec.position, Spec({}, spec.actions, ()).position
    if not same and felt and commanded:
        same = [Pair(*each) for each in zip("xyz", felt, commanded, strict=True)]
    return [pair for pair in same if not is_gripper(pair.name)]


def is_gripper(name: str) -> bool:
    return any(part in name.lower() for part in ("grip", "finger", "jaw"))


def last_part(name: str) -> str:
    """``ee.x`` -> ``x``."""
    return re.split(r"[._ ]", name.lower())[-1]


def still(values: np.ndarray) -> np.ndarray:
    """bool ``[d]`` of ``[n, d]``: entries that never differ by more than float32 rounds; all of them without rows."""
    if not len(values):
        return np.ones(values.shape[1:], bool)
    return np.asarray(np.ptp(values, axis=0) <= 1e-6 * (1e-3 + np.abs(values).max(axis=0)))
