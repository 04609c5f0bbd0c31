"""Many environments in a few worker processes, advanced together.

There are n *slots*, each an environment of its own. Slot s runs the episodes s, s + n, s + 2n, ..., whatever worker
holds it, so the number of workers changes nothing but the speed. Pictures, states and actions travel through shared
memory; instructions and outcomes as short JSON messages.

Workers outlive a pool: several evaluations in a row share them, each with environments of its own.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from plait.config import refuse_small, to_dict
from plait.data.keys import ACTION, IMAGE_PREFIX, STATE
from plait.evaluate.memory import Layout, allocate, attach, layout_of
from plait.evaluate.worker import STEP, Scenes
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


class Workers:
    """The processes that simulate. They start when they are first needed, which takes a second or more, and stay until
    the context manager is left.

    Args:
        count: how many at most; the number of processors by default.
    """

    def __init__(self, count: int | None = None) -> None:
        refuse_small(workers=(count, 1))
        self.count = processors() if count is None else count
        self._memory, self._started, self._answered = allocate(), list[Worker](), True

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._memory.close()

    def share(self, layout: Layout) -> tuple[dict[str, np.ndarray], int]:
        """The arrays of ``layout`` in the memory that all workers see, which others had before, and its descriptor."""
        descriptor = self._memory.fileno()
        layout.fit(descriptor)
        return attach(descriptor, layout), descriptor

    def ask(self, messages: Sequence[bytes], doing: Sequence[str]) -> list[Any]:
        """Send the workers a message each: their answers. ``doing``: what is said of one that dies over it.

        Raises:
            RuntimeError, OSError, ValueError: what went wrong there. The next call has new workers then.
        """
        if not self._answered:
            self._stop()
        for w in range(len(self._started), len(messages)):
            inherited = [self._memory.fileno()]
            self._started.append(Worker(f"evaluation worker {w}", "plait.evaluate.worker:work", inherited))
        asked, self._answered = self._started[: len(messages)], False
        for worker, message in zip(asked, messages, strict=True):
            worker.send(message)
        answers = [self._answer(worker, what) for worker, what in zip(asked, doing, strict=True)]
        self._answered = True
        return answers

    def _answer(self, worker: Worker, doing: str) -> Any:
        try:
            return json.loads(worker.receive())
        except Gone:
            raise RuntimeError(worker.obituary(doing)) from None

    def _stop(self) -> None:
        stop(self._started)
        self._started, self._answered = [], True


@contextmanager
def employed(workers: Workers | int | None) -> Iterator[Workers]:
    """Workers that there are already, or so many of one's own, which end with the block."""
    if isinstance(workers, Workers):
        yield workers
        return
    with Workers(workers) as own:
        yield own


class Pool:
    """The slots, seen from the main process. One at a time has the workers.

    Args:
        env: one environment like those that the workers make; its spaces say what is shared.
        slots: environments that are stepped together, the policy's batch.
        execute: actions per ``step``.

    Attributes:
        observation: of every slot, in order; its arrays are views, which the next ``step`` overwrites.
        index: the episode that each slot runs or ran last.
        fresh: bool ``[n]``, True where an episode has just begun.
        running: bool ``[n]``, False where a slot has no episode left (what it observed last stays there).

    Raises:
        ValueError: the environment's spaces are not LeRobot's, or its arguments fit into no message.
        RuntimeError, OSError: as ``step``.
    """

    def __init__(self, scenes: Scenes, env: gymnasium.Env, slots: int, execute: int, workers: Workers) -> None:
        self.scenes, self.slots, self.workers = scenes, slots, workers
        self._instruction = [""] * slots
        self._actions: list[list[np.ndarray]] = [[] for _ in range(slots)]
        self.index = [-1] * slots
        self.fresh, self.running = np.zeros(slots, bool), np.zeros(slots, bool)
        self._share = min(workers.count, slots)  # worker w holds slots w, w + share, ...
        layout = layout_of(env, slots, execute)
        self._arrays, descriptor = workers.share(layout)
        told = {"scenes": to_dict(scenes), "layout": to_dict(layout), "descriptor": descriptor}
        self._ask([_encode(told | {"slots": list(self._held(w))}) for w in range(self._share)])

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
        return self._ask([STEP] * self._share)

    def _held(self, worker: int) -> range:
        return range(worker, self.slots, self._share)

    def _ask(self, messages: list[bytes]) -> list[Episode]:
        ended = []
        for answer in self.workers.ask(messages, [self._doing(w) for w in range(self._share)]):
            ended += [self._end(**event) for event in answer["ended"]]
            for event in answer["begun"]:
                self._begin(**event)
        return ended

    def _doing(self, worker: int) -> str:
        running = [self.index[slot] for slot in self._held(worker) if self.running[slot]]
        return f" while it ran the episodes {running}" if running else ""

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
