"""Record demonstrations: worker processes run a scripted expert, one process appends its episodes in order.

The dataset depends on the environment, its arguments, the seed and the noise alone: not on the number of workers, nor
on how often the recording was interrupted. Scene ``i`` has a seed that is a pure function of (seed, i); scenes in which
the expert fails are left out and further ones take their place.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from plait.config import from_dict, to_dict
from plait.data import layout
from plait.data.episode import EncodedEpisode, Episode, encode, storage
from plait.data.writer import DatasetWriter
from plait.spec import Spec

SEEDS = 2**30  # seeds of recordings lie below, those of evaluations do not
_PATIENCE = 50  # failed scenes in a row after which the expert is given up
_DEATHS = 3  # workers that one scene may take with it
_AHEAD = 4  # episodes per worker that may wait for an earlier one
_SUCCESS, _FAILURE, _ERROR = b"s", b"f", b"e"


@dataclass(frozen=True)
class Recording:
    """What was recorded: counts over the whole dataset, ``seconds`` and ``new_frames`` of this call."""

    out: Path
    episodes: int
    frames: int
    failed: int
    seconds: float
    new_frames: int

    def __str__(self) -> str:
        rate = f", {self.new_frames / self.seconds:.0f} frames/s" if self.new_frames else ""
        left_out = f"; in {self.failed} more scenes the expert failed" if self.failed else ""
        return f"{self.out}: {self.episodes} episodes, {self.frames} frames{rate}{left_out}"


def record(
    env: str,
    out: str | Path,
    episodes: int,
    env_args: dict[str, Any] | None = None,
    workers: int = 2,
    seed: int = 0,
    noise: float = 0.0,
    images: str = "auto",
) -> Recording:
    """Record demonstrations of a scripted expert as a LeRobotDataset v3.0.

    The same call continues a recording that was interrupted; with more ``episodes`` it extends a finished one.

    Args:
        env: environment with an expert, such as ``"tabletop"``.
        out: the dataset's folder.
        episodes: how many successful episodes the dataset shall hold.
        env_args: for the environment.
        workers: processes that simulate; the dataset does not depend on it.
        seed: of the scenes.
        noise: of the expert's movements, in action units.
        images: ``"png"`` or ``"video"``; ``"auto"`` takes PNG up to 96 pixels.

    Raises:
        ValueError: a wrong argument, an environment without an expert, an expert that only fails, or a folder with
            another recording (the message lists what differs).
        OSError: the disk is full. Every finished episode is safe.
        KeyboardInterrupt: interrupted. Every finished episode is safe.
    """
    if episodes < 1 or workers < 1:
        raise ValueError(f"episodes {episodes}, workers {workers}: each must be at least 1")
    out, began = Path(out), time.perf_counter()
    arguments = {"env": env, "env_args": env_args or {}, "seed": seed, "noise": noise, "images": images}
    arguments = json.loads(json.dumps(arguments))  # as the dataset will remember them
    _check_same(out, arguments)
    with _workers(workers, arguments) as (team, spec):
        writer = DatasetWriter(out, spec, images, {"arguments": arguments, "versions": _versions()})
        before, first = writer.frames, int(writer.last_extra().get("scene", -1)) + 1
        run = _Run(team, seed, first, writer.episodes, episodes)
        try:
            _write(run, writer)
        except KeyboardInterrupt:
            message = f"interrupted; {writer.episodes} of {episodes} episodes are safe and the same command continues"
            raise KeyboardInterrupt(message) from None
    failed, seconds = run.next_scene - writer.episodes, time.perf_counter() - began
    return Recording(out, writer.episodes, writer.frames, failed, seconds, writer.frames - before)


def _write(run: "_Run", writer: DatasetWriter) -> None:
    before, began = writer.frames, time.perf_counter()
    with _progress() as bar:
        task = bar.add_task("recording", total=run.wanted, completed=writer.episodes, speed="")
        for episode in run.episodes():
            writer.append(episode)
            speed = (writer.frames - before) / (time.perf_counter() - began)
            bar.update(task, completed=writer.episodes, speed=f"{speed:.0f} frames/s")
    writer.finalize()


def scene_seed(seed: int, scene: int) -> int:
    """The seed of a scene, in [0, 2**30): a pure function of the recording's seed and the scene's number."""
    return int(np.random.SeedSequence([seed, scene]).generate_state(1)[0]) % SEEDS


def _check_same(out: Path, arguments: dict[str, Any]) -> None:
    if not (out / layout.INFO).exists() or not (out / layout.PLAIT).exists():
        return
    before = layout.read_json(out / layout.PLAIT)["provenance"].get("arguments", {})
    differences = [
        f"{name} was {before.get(name)!r} and is {value!r}"
        for name, value in arguments.items()
        if before.get(name) != value
    ]
    if differences:
        raise ValueError(f"{out}: holds another recording: {'; '.join(differences)}. Record into another folder")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("plait", "mujoco", "gymnasium", "numpy")}


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes, {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal)


class _Run:
    """Hands scenes to workers and yields successful episodes in the order of their scenes."""

    def __init__(self, team: "list[_Worker]", seed: int, first: int, done: int, wanted: int) -> None:
        self.team, self.seed = team, seed
        self.next_scene, self.done, self.wanted = first, done, wanted  # next_scene: the first that is not settled
        self.handed_out = first
        self.again: deque[int] = deque()
        self.results: dict[int, EncodedEpisode | None] = {}
        self.deaths: dict[int, int] = {}
        self.in_a_row = 0

    def episodes(self) -> Iterator[EncodedEpisode]:
        while self.done < self.wanted:
            self._hand_out()
            self._collect()
            self._hand_out()  # before the episodes are written: no worker waits for the disk
            while self.done < self.wanted and self.next_scene in self.results:
                episode = self.results.pop(self.next_scene)
                self.next_scene += 1
                self._count(episode)
                if episode is not None:
                    yield episode
                    self.done += 1

    def _hand_out(self) -> None:
        for worker in self.team:
            if worker.scene is None and (scene := self._choose()) is not None:
                worker.start(scene, scene_seed(self.seed, scene))

    def _choose(self) -> int | None:
        """The next scene to run; None when enough are under way."""
        if self.again:
            return self.again.popleft()
        waiting = sum(result is not None for result in self.results.values())
        running = sum(worker.scene is not None for worker in self.team)
        far = self.handed_out - self.next_scene >= _AHEAD * len(self.team)
        if far or self.done + waiting + running >= self.wanted:
            return None
        self.handed_out += 1
        return self.handed_out - 1

    def _collect(self) -> None:
        busy = {worker.connection: worker for worker in self.team if worker.scene is not None}
        for connection in wait(list(busy)):
            worker = busy[connection]  # pyright: ignore[reportArgumentType]
            scene = worker.scene
            assert scene is not None
            try:
                self.results[scene] = worker.finish()
            except EOFError:
                self._bury(worker, scene)

    def _bury(self, worker: "_Worker", scene: int) -> None:
        """Another worker takes the place of a dead one, and its scene is run again."""
        self.deaths[scene] = self.deaths.get(scene, 0) + 1
        reason = worker.obituary()
        if self.deaths[scene] >= _DEATHS:
            raise RuntimeError(
                f"scene {scene} (seed {scene_seed(self.seed, scene)}) ended {self.deaths[scene]} workers: {reason}"
            )
        Console(stderr=True).print(f"{reason}; its episode is recorded again", style="yellow")
        self.again.append(scene)
        successor = _Worker(worker.number, worker.arguments)
        successor.greet()
        self.team[self.team.index(worker)] = successor

    def _count(self, episode: EncodedEpisode | None) -> None:
        self.in_a_row = self.in_a_row + 1 if episode is None else 0
        if self.in_a_row >= _PATIENCE:
            raise ValueError(f"the expert failed in {_PATIENCE} scenes in a row; less noise, or another environment")


@contextmanager
def _workers(count: int, arguments: dict[str, Any]) -> Iterator[tuple[list["_Worker"], Spec]]:
    team = [_Worker(number, arguments) for number in range(count)]
    try:
        specs = [worker.greet() for worker in team]
        yield team, specs[0]
    finally:
        for worker in team:
            worker.stop()


class _Worker:
    """The recording process's side of one worker process. They speak through a socket pair, without pickle."""

    def __init__(self, number: int, arguments: dict[str, Any]) -> None:
        self.number, self.arguments = number, arguments
        self.scene: int | None = None
        self.words = tempfile.TemporaryFile()  # noqa: SIM115  what it says on standard error, told when it dies
        mine, its = socketpair()
        command = [sys.executable, "-c", "import sys; from plait.record import work; work(int(sys.argv[1]))"]
        self.process = subprocess.Popen(
            [*command, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.words,
            stderr=self.words,
            env={**os.environ, "LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the recording process; it stops the workers
        )
        its.close()
        self.connection = Connection(mine.detach())
        self.connection.send_bytes(json.dumps(arguments).encode())

    def greet(self) -> Spec:
        """What the environment's embodiment is."""
        try:
            return from_dict(Spec, json.loads(self._receive()[1:]))
        except EOFError:
            raise RuntimeError(self.obituary()) from None

    def start(self, scene: int, seed: int) -> None:
        self.scene = scene
        with suppress(OSError):  # it is dead, which finish() tells
            self.connection.send_bytes(json.dumps({"scene": scene, "seed": seed}).encode())

    def finish(self) -> EncodedEpisode | None:
        """The episode of the scene that was started; None when the expert failed. Raises ``EOFError`` when dead."""
        reply = self._receive()
        self.scene = None
        return EncodedEpisode.from_bytes(reply[1:]) if reply[:1] == _SUCCESS else None

    def _receive(self) -> bytes:
        try:
            reply = self.connection.recv_bytes()
        except OSError as error:
            raise EOFError from error
        if reply[:1] == _ERROR:
            kind, text = json.loads(reply[1:])
            raise {"ValueError": ValueError, "OSError": OSError}.get(kind, RuntimeError)(text)
        return reply

    def obituary(self) -> str:
        code = self.process.wait()
        self.words.seek(0)
        last = self.words.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"worker {self.number} (process {self.process.pid}) {how}{f': {last[0]}' if last else ''}"

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.words.close()


# ------------------------------------------------------------------------------------------- in the worker process


def work(descriptor: int) -> None:
    """Answer with the embodiment, then with one episode for every scene that is asked for, until the pipe closes."""
    connection = Connection(descriptor)
    try:
        arguments = json.loads(connection.recv_bytes())
        try:
            _serve(connection, arguments)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # told to the recording process, which raises it again
            kind = "ValueError" if isinstance(error, ValueError) else "OSError" if isinstance(error, OSError) else ""
            text = str(error) if kind else f"{type(error).__name__}: {error}"
            connection.send_bytes(_ERROR + json.dumps([kind, text]).encode())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the recording process has gone


def _serve(connection: Connection, arguments: dict[str, Any]) -> None:
    from plait import envs  # here, so that the recording process loads no simulator

    env = envs.make(arguments["env"], **arguments["env_args"]).unwrapped
    if not hasattr(env, "expert") or not hasattr(env, "embodiment"):
        raise ValueError(f"{arguments['env']}: has no scripted expert; record an environment that comes with plait")
    spec: Spec = env.embodiment  # pyright: ignore[reportAttributeAccessIssue]
    kinds = storage(spec, arguments["images"])
    connection.send_bytes(_SUCCESS + json.dumps(to_dict(spec)).encode())
    while True:
        scene = json.loads(connection.recv_bytes())
        episode = demonstrate(env, scene, arguments["noise"])
        encoded = b"" if episode is None else encode(episode, spec, kinds).to_bytes()
        connection.send_bytes((_SUCCESS if encoded else _FAILURE) + encoded)


def demonstrate(env: Any, scene: dict[str, int], noise: float = 0.0) -> Episode | None:
    """One whole episode of the environment's expert in the scene ``scene["seed"]``; None when it does not succeed.

    ``scene`` is kept beside the episode.
    """
    observation, info = env.reset(seed=scene["seed"])
    expert = env.expert(noise=noise)
    instruction, steps, actions = info["task"], [], []
    over = False
    while not over:
        action = expert.action()
        steps.append(observation)
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    if not info["is_success"]:
        return None
    spec = env.embodiment
    images = {camera: np.stack([step[layout.IMAGE_PREFIX + camera] for step in steps]) for camera in spec.cameras}
    state = np.stack([step[layout.STATE] for step in steps]) if spec.state else None
    return Episode(images, state, np.stack(actions), instruction, scene)
