"""The worker's side of a pool: a process that holds some slots and advances their environments when told to."""

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any

import gymnasium
import numpy as np

from plait import envs

IMAGE, STATE, ACTION = "observation.images.", "observation.state", "action"
FACTS = ("family", "split", "target", "first_named", "touched", "lifted", "moved", "phase")  # of ``info``, if there


@dataclass(frozen=True)
class Scenes:
    """Which episodes to run: one per seed, in environment ``env``, with one kind of instruction."""

    env: str
    seeds: tuple[int, ...]
    env_args: dict[str, Any] = field(default_factory=dict)
    instructions: str = "normal"

    def make(self) -> gymnasium.Env:
        return envs.make(self.env, **self.env_args)

    def reset(self, env: gymnasium.Env, episode: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return env.reset(seed=self.seeds[episode], options={"instruction": self.instructions})


class Shared:
    """Arrays of n slots in memory that the processes share: ``observation.*`` as the environment says, ``action``."""

    def __init__(self, context: SpawnContext, env: gymnasium.Env, slots: int, execute: int) -> None:
        layout = {**_observed(env), ACTION: ((execute, *_acted(env).shape), np.float32)}
        self._layout = {name: ((slots, *shape), np.dtype(kind)) for name, (shape, kind) in layout.items()}
        self._buffers = {
            name: context.RawArray("B", prod(shape) * dtype.itemsize) for name, (shape, dtype) in self._layout.items()
        }

    def views(self) -> dict[str, np.ndarray]:
        """Name -> array ``[slots, ...]`` over the shared memory."""
        return {
            name: np.frombuffer(self._buffers[name], dtype).reshape(shape)  # pyright: ignore[reportArgumentType]
            for name, (shape, dtype) in self._layout.items()
        }


def _observed(env: gymnasium.Env) -> dict[str, tuple[tuple[int, ...], type]]:
    space = env.observation_space
    parts = dict(space.items()) if isinstance(space, gymnasium.spaces.Dict) else {}
    kinds = {key: np.float32 if key == STATE else np.uint8 for key in parts if key == STATE or key.startswith(IMAGE)}
    layout = {key: (tuple(parts[key].shape or ()), kind) for key, kind in kinds.items()}
    if not layout:
        raise ValueError(
            f"the environment observes {space}; expected a Dict with '{IMAGE}<camera>' (uint8 [h, w, 3]) and "
            f"'{STATE}' (float [s]): put a gymnasium.ObservationWrapper around it that renames its parts"
        )
    return layout


def _acted(env: gymnasium.Env) -> gymnasium.spaces.Box:
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"the environment acts in {space}; expected a Box of one dimension")
    return space


def advance(env: gymnasium.Env, actions: np.ndarray) -> tuple[dict[str, Any], bool, int, dict[str, Any]]:
    """Execute ``actions`` ``[k, a]``, until the episode ends: (observation, ended, steps, info).

    Uses the environment's own ``advance`` (which renders once) where there is one. ``info["is_success"]`` is true when
    it was so after any step.
    """
    if (quick := getattr(env.unwrapped, "advance", None)) is not None:
        observation, _, terminated, truncated, info = quick(actions)
        return observation, bool(terminated or truncated), info["steps"], info
    observation, info, ended, success, steps = {}, {}, False, False, 0
    for action in actions:
        observation, _, terminated, truncated, info = env.step(action)
        steps, success, ended = steps + 1, success or bool(info.get("is_success")), bool(terminated or truncated)
        if ended:
            break
    return observation, ended, steps, {**info, "is_success": success}


class Slot:
    """One environment with its queue of episodes; what it sees and does stands in the shared arrays."""

    def __init__(self, scenes: Scenes, slot: int, arrays: dict[str, np.ndarray]) -> None:
        self.scenes, self.slot, self.env = scenes, slot, scenes.make()
        self.actions = arrays[ACTION][slot]
        self.observed = {name: array[slot] for name, array in arrays.items() if name != ACTION}
        self.queue = iter(range(slot, len(scenes.seeds), len(arrays[ACTION])))
        self.episode: int | None = None

    def begin(self) -> dict[str, Any] | None:
        """Start the next episode unless one is running: what the main process must know of it."""
        if self.episode is not None or (episode := next(self.queue, None)) is None:
            return None
        self.episode, self.steps, self.success = episode, 0, False
        with self._named():
            observation, info = self.scenes.reset(self.env, episode)
            self._show(observation)
        return {"slot": self.slot, "index": episode, "instruction": str(info.get("task", ""))}

    def step(self) -> dict[str, Any] | None:
        """Execute the actions that wait in the shared array: the outcome, if that ended the episode."""
        if self.episode is None:
            return None
        with self._named():
            observation, ended, steps, info = advance(self.env, self.actions)
            self._show(observation)
        self.steps += steps
        self.success |= bool(info.get("is_success"))
        if not ended:
            return None
        self.episode = None
        facts = {name: str(info[name]) for name in FACTS if name in info}
        return {"slot": self.slot, "steps": self.steps, "success": self.success, "facts": facts}

    def _show(self, observation: dict[str, Any]) -> None:
        for name, array in self.observed.items():
            array[...] = observation[name]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """An error in here says in which episode it happened."""
        try:
            yield
        except Exception as error:
            seed = self.scenes.seeds[self.episode or 0]
            where = f"environment {self.scenes.env!r} failed in episode {self.episode} (seed {seed})"
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error


def work(connection: Connection, scenes: Scenes, mine: Iterable[int], shared: Shared) -> None:
    """A worker's life: make the environments of the slots ``mine``, then step them whenever a message comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business
    os.environ["LP_NUM_THREADS"] = "1"  # Mesa would start a rasteriser thread per core in every worker
    slots: list[Slot] = []
    try:
        arrays = shared.views()
        slots += (Slot(scenes, slot, arrays) for slot in mine)
        ended = []
        while True:
            begun = [event for slot in slots if (event := slot.begin())]
            connection.send_bytes(json.dumps({"ended": ended, "begun": begun}).encode())
            connection.recv_bytes()
            ended = [event for slot in slots if (event := slot.step())]
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the main process has closed the pool, or is gone
    except Exception as error:
        connection.send_bytes(json.dumps({"error": str(error)}).encode())
    finally:
        for slot in slots:
            slot.env.close()
