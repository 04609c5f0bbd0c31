"""Closed-loop evaluation: a policy drives many environments from fixed seeds, and ``eval.json`` says how it went."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.control import Controller
from plait.evaluate.pool import Episode, Pool
from plait.evaluate.protocol import embodiment, evaluation_seed, protocol, refuse_deaf, refuse_misfit
from plait.evaluate.statistics import grouped, summarise
from plait.evaluate.video import chosen, film, write_video
from plait.evaluate.worker import Scenes
from plait.files import write_whole
from plait.policy import Policy
from plait.progress import Bar
from plait.types import Observation

SLOTS = 50  # environments that are stepped together; enough to keep the policy's batch efficient
WHOLE, PARTIAL = "eval.json", "eval.partial.json"
VIDEOS = "videos"


def evaluate(
    policy: Policy,
    env: str,
    env_args: dict[str, Any] | None = None,
    *,
    episodes: int = 200,
    seed: int = 0,
    instructions: str = "normal",
    execute: int | None = None,
    ensemble: float | None = None,
    slots: int = SLOTS,
    workers: int | None = None,
    videos: int = 0,
    video_format: str = "mp4",
    out: Path | str | None = None,
    checkpoint: str | None = None,
    title: str = "evaluating",
    quiet: bool = False,
) -> dict[str, Any]:
    """Run ``episodes`` episodes, the same for the same arguments, whatever the number of workers.

    An interruption (Ctrl-C) reports the episodes that were finished, marked ``"partial": true``, in
    ``eval.partial.json``; an earlier ``eval.json`` and its films stay as they are.

    Args:
        policy: on the device it shall run on.
        env, env_args: ``"tabletop"`` or any gymnasium id with LeRobot's observation keys, and its arguments.
        seed: chooses the scenes; training never sees any of them (``evaluation_seed``).
        instructions: ``"normal"``, ``"exchanged"`` (for another object of the same scene), ``"absent"``,
            ``"paraphrase"`` or ``"unknown_words"``.
        execute: control steps between two predictions; the policy's own value when omitted.
        ensemble: predict at every step and average what overlaps, with this decay of weights (``control.Ensemble``).
        slots, workers: environments that are stepped together, the policy's batch; and in how many processes, one per
            processor when omitted.
        videos, video_format: how many episodes are filmed, up to half of them failures, as ``"mp4"`` or ``"webp"``.
        out: folder for ``eval.json`` and ``videos/``, in place of earlier ones; nothing is written when omitted.
        checkpoint: the checkpoint's fingerprint, for the protocol.
        title, quiet: of the progress bar, and whether there is none.

    Returns:
        what ``eval.json`` holds, see ``report``; shares in percent.

    Raises:
        ValueError: the policy does not fit the environment, one sentence per difference; or it knows no such words.
        RuntimeError: an environment failed or a worker died.
    """
    scenes = Scenes(env, _seeds(seed, episodes), env_args or {}, instructions)
    controller = Controller(policy, min(slots, episodes), execute, ensemble)
    with Bar(title, episodes, "episodes", quiet=quiet) as bar:
        finished, result = _run(controller, scenes, seed, workers, checkpoint, bar)
    if out is not None:
        if result["partial"]:
            write_report(result, Path(out), PARTIAL)  # beside the report of an earlier, whole evaluation
        else:
            _write(result, scenes, chosen(finished, videos), policy, Path(out), video_format)
    return result


def _seeds(seed: int, episodes: int) -> tuple[int, ...]:
    if episodes < 1:
        raise ValueError(f"episodes: {episodes} is too few; at least 1")
    if seed < 0:
        raise ValueError(f"seed: {seed} is too small; at least 0")
    return tuple(evaluation_seed(seed, i) for i in range(episodes))


def _run(
    controller: Controller, scenes: Scenes, seed: int, workers: int | None, checkpoint: str | None, bar: Bar
) -> tuple[list[Episode], dict[str, Any]]:
    """The finished episodes and the report on them."""
    policy, probe = controller.policy, scenes.make()
    try:
        refuse_deaf(probe, scenes)
        spec = embodiment(probe, policy.spec)
        refuse_misfit(policy.spec.differences(spec, "the policy", "the environment"), f"environment {scenes.env!r}")
        described = protocol(controller, scenes, probe, spec, seed, checkpoint)
        start = time.perf_counter()
        with Pool(scenes, probe, controller.rows, controller.execute, workers) as pool:
            plan = lambda observation: controller.plan(observation, reset=pool.fresh)  # noqa: E731
            finished, partial = _collect(rollouts(plan, pool, seed), bar)
        return finished, report(finished, described, time.perf_counter() - start, partial)
    finally:
        probe.close()


def rollouts(plan: Callable[[Observation], np.ndarray], pool: Pool, seed: int = 0) -> Iterator[Episode]:
    """Drive every slot until no episode is left; yields the episodes as they end.

    Args:
        plan: observation of all slots -> actions ``[n, execute, a]``. Always called with the full batch, so that an
            episode does not depend on which others are still running.
        seed: of the random numbers that the policy may draw; the caller's stay as they are.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while pool.running.any():
            yield from pool.step(plan(pool.observation))


def report(episodes: list[Episode], protocol: dict[str, Any], wall_s: float, partial: bool) -> dict[str, Any]:
    """``eval.json`` as a dictionary: in ``per_episode`` one row each, in the other groups what they have in common."""
    rows = [episode.row() for episode in sorted(episodes, key=lambda episode: episode.index)]
    return {
        "partial": partial,
        "aggregated": {**summarise(rows), "wall_s": round(wall_s, 2)},
        "per_split": grouped(rows, "split"),
        "per_family": grouped(rows, "family"),
        "per_task": grouped(rows, "task"),
        "protocol": protocol,
        "per_episode": rows,
    }


def write_report(result: dict[str, Any], out: Path, name: str = WHOLE) -> Path:
    """Write the report into the folder ``out``, as a whole or not at all."""
    write_whole(out / name, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return out / name


def _collect(episodes: Iterator[Episode], bar: Bar) -> tuple[list[Episode], bool]:
    """The finished episodes, and whether it was interrupted."""
    finished: list[Episode] = []
    try:
        for episode in episodes:
            finished.append(episode)
            rate = sum(e.success for e in finished) / len(finished)
            bar.advance(status=f"success {rate:.0%}")
    except KeyboardInterrupt:
        return finished, True
    return finished, False


def _write(
    result: dict[str, Any], scenes: Scenes, filmed: list[Episode], policy: Policy, out: Path, video_format: str
) -> None:
    for old in out.glob(f"{VIDEOS}/episode_*"):  # of an earlier evaluation
        old.unlink()
    (out / PARTIAL).unlink(missing_ok=True)
    write_report(result, out)  # first without videos: they can be interrupted
    names = _write_videos(scenes, filmed, policy, out / VIDEOS, video_format)
    for row in result["per_episode"]:
        row |= {"video": names[row["episode"]]} if row["episode"] in names else {}
    write_report(result, out)


def _write_videos(
    scenes: Scenes, episodes: list[Episode], policy: Policy, folder: Path, video_format: str
) -> dict[int, str]:
    """Film the episodes; index -> the file's path in ``out``. One that does not repeat exactly is left out."""
    names = {}
    for episode in episodes:
        outcome = "success" if episode.success else "failure"
        path = folder / f"episode_{episode.index:04d}_{outcome}.{video_format}"
        try:
            write_video(path, film(scenes, episode, policy.spec.actions), policy.spec.rate or 10.0)
        except RuntimeError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        names[episode.index] = f"{folder.name}/{path.name}"
    return names
