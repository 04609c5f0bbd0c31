"""A team of worker processes that run scenes. Their episodes come in the order of the scenes, whoever is quicker."""

import json
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from rich.console import Console

from plait.config import from_dict
from plait.data.episode import EncodedEpisode
from plait.processes import Gone, Worker, stop
from plait.record.worker import scene_seed
from plait.spec import Spec

_DEATHS = 3  # workers that one scene may take with it
_AHEAD = 4  # episodes per worker that may wait for an earlier one
_ERRORS = (ValueError, OSError, RuntimeError)  # that a worker tells


class Team:
    """Workers, each with an environment of its own. A context manager: leaving it ends them.

    Args:
        arguments: of the recording, as JSON can hold them: env, env_args, seed, those of ``DemonstrationConfig``,
            images; and ``cache``: whether episodes shall have ``pixels``.

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
        self._error: Exception | None = None  # the first; nothing is handed out any more

    def __enter__(self) -> "Team":
        try:
            self.spec, *_ = map(self._greet, self._workers)
        except BaseException:
            stop(self._workers)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._workers)

    def episodes(self, scenes: Sequence[int]) -> Iterator[list[EncodedEpisode]]:
        """The episodes of these scenes in their order, as many at a time as are ready.

        An error is raised when whatever else was begun is finished and given: then some scenes before the last one that
        was given may be missing.

        Raises:
            ValueError: the expert fails again and again.
            RuntimeError: a scene ended several workers, or the environment failed.
        """
        given, begun = 0, 0  # how many of the scenes
        results: dict[int, EncodedEpisode] = {}
        while given < len(scenes) and (self._busy or not self._error):
            last = given + _AHEAD * len(self._workers)
            begun = self._hand_out(scenes, begun, last)
            results |= self._collect()
            begun = self._hand_out(scenes, begun, last)  # now: no worker waits for the disk
            ready: list[EncodedEpisode] = []
            while given < len(scenes) and scenes[given] in results:
                ready.append(results.pop(scenes[given]))
                given += 1
            if ready:
                yield ready
        if self._error:
            if results:
                yield [results[scene] for scene in sorted(results)]
            raise self._error

    def _hand_out(self, scenes: Sequence[int], begun: int, last: int) -> int:
        """Give scenes before the ``last`` one to idle workers, unless something failed; how many are begun."""
        for worker in self._workers:
            if worker not in self._busy and begun < min(last, len(scenes)) and not self._error:
                self._start(worker, scenes[begun])
                begun += 1
        return begun

    def _start(self, worker: Worker, scene: int) -> None:
        self._busy[worker] = scene
        worker.send(str(scene).encode())

    def _collect(self) -> dict[int, EncodedEpisode]:
        """What busy workers have finished, by scene, as soon as there is anything."""
        results = {}
        ready = wait([worker.connection for worker in self._busy])
        for worker, scene in list(self._busy.items()):
            if worker.connection not in ready:
                continue
            del self._busy[worker]
            try:
                results |= self._receive(worker, scene)
            except _ERRORS as error:
                self._error = self._error or error
        return results

    def _receive(self, worker: Worker, scene: int) -> dict[int, EncodedEpisode]:
        """The scene's episode; {} where the worker died and another one runs the scene again."""
        try:
            return {scene: EncodedEpisode.receive(worker, self.spec.cameras if self.arguments["cache"] else {})}
        except Gone:
            self._replace(worker, scene)
            return {}
        except _ERRORS as error:
            raise type(error)(f"{worker.name}: {error}") from None

    def _replace(self, dead: Worker, scene: int) -> None:
        """Another worker takes the place of a dead one and runs its scene again."""
        reason = dead.obituary()
        self._deaths[scene] = self._deaths.get(scene, 0) + 1
        if self._deaths[scene] >= _DEATHS:
            seed = scene_seed(self.arguments["seed"], scene)
            raise RuntimeError(f"scene {scene}, seed {seed} at first, ended {self._deaths[scene]} workers: {reason}")
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
