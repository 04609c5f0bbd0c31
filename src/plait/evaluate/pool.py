"""Many environments in a few worker processes, advanced together.

There are n *slots*, each an environment of its own. Slot s runs the episodes s, s + n, s + 2n, ..., whatever worker
holds it, so the number of workers changes nothing but the speed. Pictures, states and actions travel through shared
memory; instructions and outcomes as short JSON messages. Workers are spawned: no GL or CUDA context is inherited.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import gymnasium
import numpy as np

from plait.evaluate.worker import ACTION, IMAGE, STATE, Scenes, Shared, work
from plait.types import Observation


@dataclass(frozen=True)
class Episode:
    """A finished episode: what was asked, what was done, and how it ended.

    Attributes:
        facts: what the environment says of it: family, split, target, first_named, touched, lifted, moved, phase.
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
        task = " ".join(filter(None, map(self.facts.get, ("family", "target")))) or self.instruction
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
        context = get_context("spawn")
        shared = Shared(context, env, slots, execute)
        self._arrays = shared.views()
        self._instruction = [""] * slots
        self._actions: list[list[np.ndarray]] = [[] for _ in range(slots)]
        self.index = [-1] * slots
        self.fresh, self.running = np.zeros(slots, bool), np.zeros(slots, bool)
        self._workers: list[tuple[SpawnProcess, Connection]] = []
        self._share = min(workers or processors(), slots)  # worker w holds the slots w, w + share, ...
        with _interrupts_ignored():
            for w in range(self._share):
                mine, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, scenes, self._held(w), shared), daemon=True)
                process.start()
                theirs.close()  # while it is open here, a dead worker's pipe would not report its end
                self._workers.append((process, mine))

    def __enter__(self) -> "Pool":
        try:
            self._receive()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, within a second; leaving the context calls it."""
        for _, connection in self._workers:
            connection.close()
        deadline = time.monotonic() + 1.0  # to free their GL contexts; one that is busy is not waited for
        for process, _ in self._workers:
            process.join(max(0.0, deadline - time.monotonic()))
            process.terminate()
            process.join()

    @property
    def observation(self) -> Observation:
        images = {name.removeprefix(IMAGE): array for name, array in self._arrays.items() if name.startswith(IMAGE)}
        return Observation(images, self._arrays.get(STATE), list(self._instruction))

    def step(self, actions: np.ndarray) -> list[Episode]:
        """Execute ``actions`` ``[n, k, a]`` in every running slot; the episodes that ended.

        Raises:
            RuntimeError: an environment failed, or a worker died; says which and where.
        """
        self._arrays[ACTION][:] = actions
        for slot in np.flatnonzero(self.running):
            self._actions[slot].append(np.array(actions[slot], np.float32))
        self.fresh[:] = False
        for w, (_, connection) in enumerate(self._workers):
            try:
                connection.send_bytes(b"step")
            except OSError:
                raise self._death(w) from None
        return self._receive()

    def _held(self, worker: int) -> range:
        return range(worker, self.slots, self._share)

    def _receive(self) -> list[Episode]:
        ended = []
        for w, (_, connection) in enumerate(self._workers):
            try:
                message = json.loads(connection.recv_bytes())
            except (EOFError, OSError):
                raise self._death(w) from None
            if "error" in message:
                raise RuntimeError(message["error"])
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

    def _death(self, worker: int) -> RuntimeError:
        process, _ = self._workers[worker]
        process.join(timeout=5)
        why = " (killed; out of memory?)" if process.exitcode == -signal.SIGKILL else ""
        episodes = [self.index[slot] for slot in self._held(worker) if self.running[slot]]
        return RuntimeError(
            f"evaluation worker {worker} died with exit code {process.exitcode}{why} while it ran the episodes "
            f"{episodes}; what it printed is above. Fewer slots need less memory"
        )


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Children started here ignore Ctrl-C from their first instruction, or it would print their import's traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
