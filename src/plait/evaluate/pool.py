"""Many environments in a few worker processes, advanced together.

There are n *slots*, each an environment of its own. Slot s runs the episodes s, s + n, s + 2n, ..., whatever worker
holds it, so the number of workers changes nothing but the speed. Pictures, states and actions travel through shared
memory; instructions and outcomes as short JSON messages.
"""

import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from plait.config import to_dict
from plait.data.keys import ACTION, IMAGE_PREFIX, STATE
from plait.evaluate.memory import allocate, attach, layout_of
from plait.evaluate.worker import Scenes
from plait.processes import Gone, Worker, processors, stop
from plait.types import Observation


@dataclass(frozen=True)
class Episode:
    """A finished episode: what was asked, what was done, and how it ended.

    Attributes:
        facts: what the environment says of it, see ``worker.FACTS``.
        actions: float32 ``[steps, a]``, as executed: with the seed, all that is needed to see the episode again.
    """

    index: int
    seed: int
    instruction: str
    success: bool
    facts: dict[str, str]
    actions: np.ndarray

    def row(self) -> dict[str, Any]:
        """The episode's entry in ``eval.json``."""
        task = " ".join(filter(None, map(self.facts.get, ("task_name", "family", "target")))) or self.instruction
        asked = {"episode": self.index, "seed": self.seed, "task": task, "instruction": self.instruction}
        return {**asked, "success": self.success, "steps": len(self.actions), **self.facts}


class Pool:
    """The slots, seen from the main process. A context manager: leaving it ends the workers.

    Args:
        env: one environment like those that the workers make; its spaces say what is shared.
        slots: environments that are stepped together, the policy's batch.
        execute: actions per ``step``.
        workers: processes; the number of processors by default.

    Attributes:
        observation: of every slot, in order; its arrays are views, which the next ``step`` overwrites.
        index: the episode that each slot runs or ran last.
        fresh: bool ``[n]``, True where an episode has just begun.
        running: bool ``[n]``, False where a slot has no episode left (what it observed last stays there).
    """

    def __init__(self, scenes: Scenes, env: gymnasium.Env, slots: int, execute: int, workers: int | None = None):
        self.scenes, self.slots = scenes, slots
        self._instruction = [""] * slots
        self._actions: list[list[np.ndarray]] = [[] for _ in range(slots)]
        self.index = [-1] * slots
        self.fresh, self.running = np.zeros(slots, bool), np.zeros(slots, bool)
        self._share = min(processors() if workers is None else workers, slots)  # worker w holds slots w, w + share, ...
        layout = layout_of(env, slots, execute)
        with allocate(layout) as memory:
            told = {"scenes": to_dict(scenes), "layout": to_dict(layout), "descriptor": memory.fileno()}
            self._arrays = attach(memory.fileno(), layout)
            messages = [_encode(told | {"slots": list(self._held(w))}) for w in range(self._share)]
            self._workers = [
                Worker(f"evaluation worker {w}", "plait.evaluate.worker:work", [memory.fileno()])
                for w in range(self._share)
            ]
        for worker, message in zip(self._workers, messages, strict=True):
            worker.send(message)

    def __enter__(self) -> "Pool":
        try:
            self._receive()
        except BaseException:
            stop(self._workers)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._workers)

    @property
    def observation(self) -> Observation:
        arrays = self._arrays.items()
        images = {name.removeprefix(IMAGE_PREFIX): array for name, array in arrays if name.startswith(IMAGE_PREFIX)}
        return Observation(images, self._arrays.get(STATE), list(self._instruction))

    def step(self, actions: np.ndarray) -> list[Episode]:
        """Execute ``actions`` ``[n, k, a]`` in every running slot; the episodes that ended.

        Raises:
            RuntimeError: an environment failed, or a worker died; says which and where.
            OSError: the machine lacks something, such as a library to draw with.
        """
        self._arrays[ACTION][:] = actions
        for slot in np.flatnonzero(self.running):
            self._actions[slot].append(np.array(actions[slot], np.float32))
        self.fresh[:] = False
        for worker in self._workers:
            worker.send(b"step")
        return self._receive()

    def _held(self, worker: int) -> range:
        return range(worker, self.slots, self._share)

    def _receive(self) -> list[Episode]:
        ended = []
        for w, worker in enumerate(self._workers):
            try:
                message = json.loads(worker.receive())
            except Gone:
                running = [self.index[slot] for slot in self._held(w) if self.running[slot]]
                raise RuntimeError(worker.obituary(f" while it ran the episodes {running}")) from None
            ended += [self._end(**event) for event in message["ended"]]
            for event in message["begun"]:
                self._begin(**event)
        return ended

    def _end(self, slot: int, steps: int, success: bool, facts: dict[str, str]) -> Episode:
        index, actions = self.index[slot], np.concatenate(self._actions[slot])[:steps]
        self.running[slot] = False
        return Episode(index, self.scenes.seeds[index], self._instruction[slot], success, facts, actions)

    def _begin(self, slot: int, index: int, instruction: str) -> None:
        self.index[slot], self._instruction[slot], self._actions[slot] = index, instruction, []
        self.fresh[slot] = self.running[slot] = True


def _encode(told: dict[str, Any]) -> bytes:
    try:
        return json.dumps(told).encode()
    except TypeError as error:
        env_args = told["scenes"]["env_args"]
        raise ValueError(f"env_args {env_args}: {error}; give numbers, texts, and lists and tables of them") from None
