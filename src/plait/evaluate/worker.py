"""The worker's side of a pool: a process that holds some slots and advances their environments when told to."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from plait import envs
from plait.config import from_dict
from plait.data.keys import ACTION
from plait.evaluate.memory import Layout, attach
from plait.processes import Channel

STEP = b"step"
FACTS = (  # of ``info``, if there
    *("family", "split", "target", "first_named", "touched", "lifted", "moved", "phase"),
    *("task_name", "tier"),
)


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
        return env.reset(seed=self.seeds[episode], options={"instruction": self.instructions, "number": episode})


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
        except OSError:  # the machine lacks something (a library, room on the disk): no fault of this episode
            raise
        except Exception as error:
            seed = self.scenes.seeds[self.episode or 0]
            where = f"environment {self.scenes.env!r} failed in episode {self.episode} (seed {seed})"
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error


def work(channel: Channel) -> None:
    """Told scenes and its slots, make their environments in place of earlier ones; told to step, step them."""
    slots: list[Slot] = []
    try:
        while True:
            message, ended = channel.receive(), []
            if message == STEP:
                ended = [event for slot in slots if (event := slot.step())]
            else:
                _close(slots)
                slots += _slots(json.loads(message))
            begun = [event for slot in slots if (event := slot.begin())]
            channel.send(json.dumps({"ended": ended, "begun": begun}).encode())
    finally:
        _close(slots)


def _close(slots: list[Slot]) -> None:
    while slots:
        slots.pop().env.close()


def _slots(told: dict[str, Any]) -> Iterator[Slot]:
    """Made one by one, so that those before one that fails are closed."""
    arrays, scenes = attach(told["descriptor"], from_dict(Layout, told["layout"])), from_dict(Scenes, told["scenes"])
    for slot in told["slots"]:
        yield _slot(scenes, slot, arrays)


def _slot(scenes: Scenes, slot: int, arrays: dict[str, np.ndarray]) -> Slot:
    try:
        return Slot(scenes, slot, arrays)
    except ValueError as error:  # the main process made one like it: a script may have registered its environment there
        hint = "workers run nothing of your script: name the module that registers the environment, as in 'module:id'"
        raise ValueError(f"{error} ({hint})") from error
