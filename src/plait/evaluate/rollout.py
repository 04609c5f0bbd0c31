"""Closed-loop evaluation: a policy drives many environments from fixed seeds, and ``eval.json`` says how it went."""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from plait.config import refuse_small
from plait.control import Controller
from plait.evaluate.alter import Alteration, altering
from plait.evaluate.pool import Episode, Pool, Workers, employed
from plait.evaluate.protocol import evaluation_seed, protocol, unknown_words
from plait.evaluate.statistics import grouped, summarise
from plait.evaluate.video import chosen, film, write_video
from plait.evaluate.worker import Scenes
from plait.files import locked, write_whole
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
    alter: Sequence[Alteration] = (),
    execute: int | None = None,
    ensemble: float | None = None,
    slots: int = SLOTS,
    workers: Workers | int | None = None,
    videos: int = 0,
    video_format: str = "mp4",
    out: Path | str | None = None,
    checkpoint: str | None = None,
    title: str = "evaluating",
    quiet: bool = False,
) -> dict[str, Any]:
    """Run ``episodes`` episodes, the same for the same arguments, whatever the number of workers.

    An interruption (Ctrl-C) reports the episodes that were finished, if any, marked ``"partial": true``, in
    ``eval.partial.json``; an earlier ``eval.json`` and its films stay as they are. One that comes while the episodes
    are filmed leaves a whole report, which counts the ``"unfilmed"`` ones.

    Args:
        policy: on the device it shall run on.
        env, env_args: ``"tabletop"`` or any gymnasium id with LeRobot's observation keys, and its arguments.
        seed: chooses the scenes; training never sees any of them (``evaluation_seed``).
        instructions: ``"normal"``, ``"exchanged"`` (for another object of the same scene, or for another task),
            ``"absent"``, ``"paraphrase"`` or ``"unknown_words"``, as far as the environment knows them.
        alter: what is changed in the observations before the policy sees them (``alter``), the first one first.
        execute: control steps between two predictions; the policy's own value when omitted.
        ensemble: predict at every step and average what overlaps, with this decay of weights (``control.Ensemble``).
        slots, workers: environments that are stepped together, the policy's batch; and in how many processes, one per
            processor when omitted. Several evaluations in a row are faster when they share ``Workers``.
        videos, video_format: how many episodes are filmed, up to half of them failures, as ``"mp4"`` or ``"webp"``.
        out: folder for ``eval.json`` and ``videos/``, in place of earlier ones; nothing is written when omitted.
        checkpoint: the checkpoint's fingerprint, for the protocol.
        title, quiet: of the progress bar, and whether there is none.

    Returns:
        what ``eval.json`` holds, see ``report``; shares in percent.

    Raises:
        ValueError: a number that is too small, or the policy does not fit the environment, one sentence per
            difference; or that one knows no such words or modalities; or another process evaluates into ``out``.
        FloatingPointError: the policy's actions are not finite.
        RuntimeError: an environment failed or a worker died.
    """
    refuse_small(episodes=(episodes, 1), seed=(seed, 0), slots=(slots, 1), videos=(videos, 0))
    seeds = tuple(evaluation_seed(seed, i) for i in range(episodes))
    scenes = Scenes(env, seeds, env_args or {}, instructions)
    controller = Controller(policy, min(slots, episodes), execute, ensemble)
    with employed(workers) as staff, closing(scenes.make()) as probe:
        described = protocol(controller, scenes, probe, alter, seed, checkpoint)
        with nullcontext() if out is None else locked(Path(out)):
            with Bar(title, episodes, "episodes", quiet=quiet) as bar:
                finished, result = _run(controller, scenes, probe, alter, described, staff, bar)
            if out is not None:
                _write(result, scenes, chosen(finished, videos), policy, Path(out), video_format)
    return result


def _run(
    controller: Controller,
    scenes: Scenes,
    probe: gymnasium.Env,
    alter: Sequence[Alteration],
    described: dict[str, Any],
    workers: Workers,
    bar: Bar,
) -> tuple[list[Episode], dict[str, Any]]:
    """The finished episodes and the report on them."""
    start, seen = time.perf_counter(), altering(alter)
    pool = Pool(scenes, probe, controller.rows, controller.execute, workers)
    plan = lambda observation: controller.plan(seen(observation, pool.fresh), reset=pool.fresh)  # noqa: E731
    finished, partial = _collect(rollouts(plan, pool, described["seed"]), bar)
    wall_s = time.perf_counter() - start
    unknown = unknown_words(controller.policy.tokenizer, [episode.instruction for episode in finished])
    return finished, report(finished, {**described, "unknown_words": unknown}, wall_s, partial)


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
        "unfilmed": 0,
        "aggregated": {**summarise(rows), "wall_s": round(wall_s, 2)},
        "per_split": grouped(rows, "split"),
        "per_family": grouped(rows, "family"),
        "per_tier": grouped(rows, "tier"),
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
    """The report of a whole evaluation, then its films, which can be interrupted; or what is left of a partial one."""
    if result["partial"]:
        if result["per_episode"]:
            write_report(result, out, PARTIAL)  # beside the report of an earlier, whole evaluation
        return
    result["unfilmed"] = len(filmed)
    write_report(result, out)
    with suppress(KeyboardInterrupt):
        (out / PARTIAL).unlink(missing_ok=True)
        for old in out.glob(f"{VIDEOS}/episode_*"):  # of an earlier evaluation
            old.unlink()
        rows = {row["episode"]: row for row in result["per_episode"]}
        for episode in filmed:
            name = _write_video(scenes, episode, policy, out / VIDEOS, video_format)
            rows[episode.index] |= {"video": f"{VIDEOS}/{name}"} if name else {}
            result["unfilmed"] -= 1
    write_report(result, out)


def _write_video(scenes: Scenes, episode: Episode, policy: Policy, folder: Path, video_format: str) -> str | None:
    """Film the episode: the file's name, or None when it does not repeat exactly. An interruption leaves no file."""
    outcome = "success" if episode.success else "failure"
    path = folder / f"episode_{episode.index:04d}_{outcome}.{video_format}"
    try:
        write_video(path, film(scenes, episode, policy.spec.actions), policy.spec.rate or 10.0)
    except RuntimeError as error:
        warnings.warn(str(error), stacklevel=2)
        return None
    except KeyboardInterrupt:
        path.unlink(missing_ok=True)
        raise
    return path.name
