"""The tabletop: how long a control step and its pictures take, how fast it records, how good its experts are.

    python benchmarks/simulation.py --hardware "2 CPU cores"

A control step is 0.1 s of the simulated world, with the record of what was touched, lifted and moved. It and the
drawing of two 64-pixel cameras are timed in whole episodes of the expert, this process confined to one core. A frame of
a recording is a control step with both pictures on the disk in their final form: the dataset is finalized within the
time that counts. Meant for Linux, where a process can be confined.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import tyro
from publish import RESULTS, publish, table

from plait import envs
from plait.envs.opengl import backend
from plait.envs.tabletop.tasks import FAMILIES
from plait.evaluate.statistics import share
from plait.record.demonstration import demonstrate
from plait.record.recorder import record
from plait.record.team import Team

SIZE, CAMERAS = 64, ("front", "wrist")
VOCABULARIES: tuple[str, ...] = ("small", "large")
ROUNDS = 3  # of the recording
NOTHING = np.zeros((0, 7), np.float32)  # actions: only pictures are drawn
TIMES = ("step", "drawing", "both")

ABOUT = """\
step: `env.step` without cameras; drawing: two cameras of 64 pixels, by `advance` without actions; both: `env.step` with
these cameras. Medians and 99th percentiles; the scenes' seeds count from 0."""


def clock(times: list[float], call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns; its milliseconds are appended to ``times``."""
    began = time.perf_counter()
    result = call(*arguments)
    times.append(1000 * (time.perf_counter() - began))
    return result


@contextmanager
def one_core() -> Iterator[None]:
    """Confine this process to one of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def control_steps(family: str, steps: int) -> dict[str, list[float]]:
    """Milliseconds of at least so many control steps in whole episodes of the expert, by ``TIMES``.

    Two environments go through the same scenes side by side, one without cameras.
    """
    blind: Any = envs.make("tabletop", family=family, cameras=()).unwrapped
    seeing: Any = envs.make("tabletop", family=family, cameras=CAMERAS, size=SIZE).unwrapped
    times: dict[str, list[float]] = {name: [] for name in TIMES}
    for seed in count():
        blind.reset(seed=seed)
        seeing.reset(seed=seed)
        expert, over = blind.expert(), False
        while not over:
            action = expert.action()
            _, _, terminated, truncated, _ = clock(times["step"], blind.step, action)
            clock(times["both"], seeing.step, action)
            clock(times["drawing"], seeing.advance, NOTHING)
            over = terminated or truncated
        if len(times["step"]) >= steps:
            break
    return times


def summary(times: list[float]) -> dict[str, float]:
    return {"median_ms": median(times), "p99_ms": quantiles(times, n=100)[98]}


def recording(episodes: int, workers: int, scratch: Path | None) -> dict[str, float]:
    """Frames per second of one recording, with and without the start of its processes (timed apart, just before), and
    of one more that leaves the images in the cache of training as well."""
    env_args = {"family": "pick", "size": SIZE, "cameras": list(CAMERAS)}
    began = time.perf_counter()
    arguments = {"env": "tabletop", "env_args": env_args, "seed": 0, "noise": 0.0, "images": "png", "cache": False}
    with Team(workers, arguments):
        start = time.perf_counter() - began
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        made = record("tabletop", Path(folder) / "dataset", episodes, env_args, workers)
        cached = record("tabletop", Path(folder) / "cached", episodes, env_args, workers, cache=True)
    rates = {"rate": made.new_frames / made.seconds, "rate_without_start": made.new_frames / (made.seconds - start)}
    rates["rate_with_cache"] = cached.new_frames / cached.seconds
    return {"frames": made.new_frames, "seconds": made.seconds, "start_s": start, **rates}


def expert(family: str, vocabulary: str, scenes: int) -> dict[str, Any]:
    """In how many of the scenes with seeds 0 to ``scenes - 1`` the expert succeeds."""
    env: Any = envs.make("tabletop", family=family, vocabulary=vocabulary, cameras=()).unwrapped
    failed = [seed for seed in range(scenes) if demonstrate(env, seed) is None]
    succeeded = share(seed not in failed for seed in range(scenes))
    return {**succeeded, "scenes": scenes, "failed_seeds": failed}


def steps_table(results: dict[str, dict[str, Any]]) -> str:
    heads = [f"{name}: {what}" for name in TIMES for what in ("median", "p99")]
    rows = [
        [family, *(f"{result[name][key]:.2f} ms" for name in TIMES for key in ("median_ms", "p99_ms")), result["steps"]]
        for family, result in results.items()
    ]
    return table(["family", *heads, "steps"], rows)


def recording_table(rounds: list[dict[str, float]]) -> str:
    heads = ("round", "frames", "seconds", "start of processes", "frames/s", "without start", "with the cache")
    names = ("rate", "rate_without_start", "rate_with_cache")
    rows = [
        [i, r["frames"], f"{r['seconds']:.1f}", f"{r['start_s']:.1f} s"] + [f"{r[key]:,.0f}" for key in names]
        for i, r in enumerate(rounds, 1)
    ]
    medians = [f"{median(r[key] for r in rounds):,.0f}" for key in names]
    return table(heads, [*rows, ["median", "", "", "", *medians]])


def experts_table(results: dict[tuple[str, str], dict[str, Any]]) -> str:
    rows = [
        [family, vocabulary, f"{result['pc_success']:.1f} %", "{:.1f} – {:.1f}".format(*result["pc_success_ci95"])]
        for (family, vocabulary), result in results.items()
    ]
    return table(("family", "vocabulary", "success", "95 % interval"), rows)


def main(
    hardware: str = "2 CPU cores",
    steps: int = 1000,
    episodes: int = 1500,
    workers: int = 2,
    scenes: int = 200,
    scratch: Path | None = None,
    report: Path = RESULTS,
) -> None:
    """Measure; prints the tables and writes them.

    Args:
        hardware: as it shall stand in the file's name.
        steps: control steps that are timed, of each family.
        episodes: of each recording.
        workers: processes that record.
        scenes: in which each expert is tried; their seeds count from 0.
        scratch: folder for the recordings, which are removed.
        report: folder of the results file.
    """
    os.environ |= {"LP_NUM_THREADS": "0"}  # as in the processes that record: Mesa draws in the thread that asks
    timed = {}
    with one_core():
        for family in FAMILIES:
            times = control_steps(family, steps)
            timed[family] = {name: summary(times[name]) for name in TIMES} | {"steps": len(times["step"])}
    sections = [f"**A control step, on one core** ({backend()})", steps_table(timed), ABOUT]
    print("\n\n".join(sections), flush=True)
    rounds = [recording(episodes, workers, scratch) for _ in range(ROUNDS)]
    heading = f"**Recording**, pick, {episodes} episodes, {len(CAMERAS)} cameras of {SIZE} pixels, {workers} processes"
    sections += [heading, recording_table(rounds)]
    print("\n\n".join(["", *sections[-2:]]), flush=True)
    experts = {pair: expert(*pair, scenes) for pair in product(FAMILIES, VOCABULARIES)}
    sections += [f"**Experts**, {scenes} scenes each, seeds 0 to {scenes - 1}, no noise", experts_table(experts)]
    print("\n\n".join(["", *sections[-2:]]))
    rows = [{"family": family, "vocabulary": words, **result} for (family, words), result in experts.items()]
    data = {"opengl": backend(), "steps": timed, "recording": {"workers": workers, "rounds": rounds}, "experts": rows}
    publish("simulation", "Simulation of the tabletop", hardware, "\n\n".join(sections), data, report)


if __name__ == "__main__":
    tyro.cli(main)
