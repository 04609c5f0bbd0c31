"""A team of worker processes that run scenes. Their episodes come in the order of the scenes, whoever is quicker."""

import json
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from rich.console import Console

from plait.config import from_dict
from plait.data.episode import EncodedEpisode
from plait.processes import Gone, Worker, stop
from plait.spec import Spec

SEEDS = 2**30  # seeds of recordings lie below, those of evaluations do not
_PATIENCE = 50  # failed scenes in a row after which the expert is given up
_DEATHS = 3  # workers that one scene may take with it
_AHEAD = 4  # episodes per worker that may wait for an earlier one


def scene_seed(seed: int, scene: int) -> int:
    """The seed of a scene, in [0, 2**30): a pure function of the recording's seed and the scene's number."""
    return int(np.random.SeedSequence([seed, scene]).generate_state(1)[0]) % SEEDS


class Team:
    """Workers, each with an environment of its own. A context manager: leaving it ends them.

    Args:
        arguments: of the recording, as JSON can hold them: env, env_args, seed, noise, images.

    Attributes:
        spec: the environment's embodiment.

    Raises:
        ValueError, OSError, RuntimeError: when it is entered: the environment cannot be made or has no expert, or a
            worker died.
    """

    spec: Spec

    def __init__(self, size: int, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self._workers = [self._hire(f"worker {number}") for number in range(size)]
        self._busy: dict[Worker, int] = {}  # with which scene
        self._deaths: dict[int, int] = {}  # of how many workers, by scene

    def __enter__(self) -> "Team":
        try:
            self.spec, *_ = map(self._greet, self._workers)
        except BaseException:
            stop(self._workers)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._workers)

    def episodes(self, scene: int, wanted: int) -> Iterator[list[EncodedEpisode]]:
        """Run ``scene`` and those after it: their episodes, in order, as many at a time as are ready, until ``wanted``
        have succeeded.

        Raises:
            ValueError: the expert fails again and again.
            RuntimeError: a scene ended several workers, or the environment failed.
        """
        following, failures = scene, 0  # following: the first that nobody was told to run
        results: dict[int, EncodedEpisode | None] = {}
        while wanted:
            following = self._hand_out(scene, following, wanted, results)
            results |= self._collect()
            following = self._hand_out(scene, following, wanted, results)  # now: no worker waits for the disk
            ready: list[EncodedEpisode] = []
            while len(ready) < wanted and scene in results and failures < _PATIENCE:
                episode = results.pop(scene)
                scene += 1
                failures = failures + 1 if episode is None else 0
                ready += [] if episode is None else [episode]
            if ready:
                yield ready
                wanted -= len(ready)
            if failures >= _PATIENCE:
                message = f"the expert failed in {failures} scenes in a row; less noise, or another environment"
                raise ValueError(message)

    def _hand_out(self, scene: int, following: int, wanted: int, results: dict[int, EncodedEpisode | None]) -> int:
        """Give scenes to idle workers while more may be needed; the first that is left."""
        waiting = sum(episode is not None for episode in results.values())
        last = scene + _AHEAD * len(self._workers)
        for worker in self._workers:
            if worker not in self._busy and following < last and waiting + len(self._busy) < wanted:
                self._start(worker, following)
                following += 1
        return following

    def _start(self, worker: Worker, scene: int) -> None:
        self._busy[worker] = scene
        seed = scene_seed(self.arguments["seed"], scene)
        worker.send(json.dumps({"scene": scene, "seed": seed}).encode())

    def _collect(self) -> dict[int, EncodedEpisode | None]:
        """What busy workers have finished, by scene, as soon as there is anything. None: the expert failed."""
        results = {}
        ready = wait([worker.connection for worker in self._busy])
        for worker, scene in list(self._busy.items()):
            if worker.connection not in ready:
                continue
            del self._busy[worker]
            try:
                message = worker.receive()
                results[scene] = EncodedEpisode.from_bytes(message) if message else None
            except Gone:
                self._replace(worker, scene)
        return results

    def _replace(self, dead: Worker, scene: int) -> None:
        """Another worker takes the place of a dead one and runs its scene again."""
        reason = dead.obituary()
        self._deaths[scene] = self._deaths.get(scene, 0) + 1
        if self._deaths[scene] >= _DEATHS:
            seed = scene_seed(self.arguments["seed"], scene)
            raise RuntimeError(f"scene {scene} (seed {seed}) ended {self._deaths[scene]} workers: {reason}")
        Console(stderr=True).print(f"{reason}; its episode is recorded again", style="yellow")
        stop([dead])
        successor = self._hire(dead.name)
        self._workers[self._workers.index(dead)] = successor
        self._greet(successor)
        self._start(successor, scene)

    def _hire(self, name: str) -> Worker:
        worker = Worker(name, "plait.record.worker:work")
        worker.send(json.dumps(self.arguments).encode())
        return worker

    def _greet(self, worker: Worker) -> Spec:
        try:
            return from_dict(Spec, json.loads(worker.receive()))
        except Gone:
            raise RuntimeError(worker.obituary()) from None
