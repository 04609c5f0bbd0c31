"""Random access to demonstrations: plait's loader against lerobot's, on the same files, on the CPU, without workers.

    python benchmarks/loader.py --lerobot-python lerobot/bin/python --hardware "2 CPU cores"

One sample is one frame with all its cameras, its state, its action (plait: the chunk of 8 that follows) and its
instruction, collated into a batch of 64 in a random order. Three rounds, each measuring every loader once in turn, one
torch thread each; the table shows the median. lerobot decodes video with torchcodec where that loads, and with PyAV.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH, HORIZON, ROUNDS = 64, 8, 3
SECONDS = 4.0  # of each measurement


def rate(batch: Callable[[int], Any], seconds: float = SECONDS) -> float:
    """Samples per second of ``batch(step)``, after one batch to warm up."""
    batch(0)
    began, step = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step += 1
        batch(step)
    return step * BATCH / (time.perf_counter() - began)


def measure_lerobot(folder: Path, backend: str) -> dict[str, Any]:
    """Runs in lerobot's Python."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]
    from torch.utils.data import default_collate

    torch.set_num_threads(1)
    dataset = LeRobotDataset("plait/benchmark", root=folder, video_backend=backend)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    frames = lambda step: [order[i % len(order)] for i in range(step * BATCH, (step + 1) * BATCH)]  # noqa: E731
    return {"rate": rate(lambda step: default_collate([dataset[i] for i in frames(step)]))}


def measure_plait(folder: Path, size: int, cache: bool) -> dict[str, Any]:
    import torch

    from plait.data.lerobot import Dataset
    from plait.data.loader import Loader
    from plait.types import Inputs, Observation

    torch.set_num_threads(1)

    def prepare(observation: Observation) -> Inputs:
        words = torch.zeros(len(observation), 1, dtype=torch.int64)
        return Inputs(observation.images, observation.state, words, words.bool(), {})

    dataset, began = Dataset.open(folder), time.perf_counter()
    loader = Loader(dataset, prepare, HORIZON, BATCH, (size, size), validation=0.0, cache=cache)
    return {"build": time.perf_counter() - began, "rate": rate(loader.batch), "frames": len(dataset)}


def call(python: str, *arguments: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    run = subprocess.run([python, __file__, *arguments], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{python} {' '.join(arguments)} failed:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def video_backends(lerobot_python: str) -> list[str]:
    loads = subprocess.run([lerobot_python, "-c", "import torchcodec.decoders"], capture_output=True).returncode == 0
    return ["pyav", *(["torchcodec"] if loads else [])]


def compare(folder: Path, size: int, lerobot_python: str, backends: list[str]) -> dict[str, Any]:
    label = {"pyav": "lerobot, PyAV", "torchcodec": "lerobot, torchcodec"} if len(backends) > 1 else {"pyav": "lerobot"}
    names = {label[backend]: (lerobot_python, ("--lerobot", backend)) for backend in backends}
    names |= {
        "plait, no cache": (sys.executable, ("--plait", "decode")),
        "plait, cache": (sys.executable, ("--plait", "cache")),
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, (python, arguments) in names.items():
            results[name].append(call(python, *arguments, "--folder", str(folder), "--size", str(size)))
            print(f"  {name}: {results[name][-1]['rate']:.0f} samples/s", file=sys.stderr)
    table = {name: statistics.median(result["rate"] for result in rounds) for name, rounds in results.items()}
    built = results["plait, cache"][0]
    return {"samples_per_s": table, "cache_build_s": built["build"], "frames": built["frames"], "rounds": results}


def versions(lerobot_python: str) -> dict[str, str]:
    ask = "import json; from importlib.metadata import version as v; print(json.dumps({n: v(n) for n in %r}))"
    names = ["lerobot", "torch", "torchcodec", "av", "datasets"]
    theirs = subprocess.run([lerobot_python, "-c", ask % (names,)], capture_output=True, text=True, check=True).stdout
    ours = subprocess.run(
        [sys.executable, "-c", ask % (["plait", "torch", "av", "pyarrow", "opencv-python-headless"],)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {"lerobot's": json.loads(theirs), "plait's": json.loads(ours)}


def markdown(report: dict[str, Any]) -> str:
    lines = [f"# Loader against lerobot, {report['hardware']}, {report['date']}", "", f"`{report['command']}`", ""]
    for kind, result in report["datasets"].items():
        best = max(rate for name, rate in result["samples_per_s"].items() if name.startswith("lerobot"))
        lines += [
            f"**{kind}**, {result['frames']} frames of 2 cameras at {report['size']} px; cache built in "
            f"{result['cache_build_s']:.1f} s, once.",
            "",
            "| loader | samples/s | times lerobot's best |",
            "|---|---|---|",
            *(f"| {name} | {rate:,.0f} | {rate / best:.2f} |" for name, rate in result["samples_per_s"].items()),
            "",
        ]
    lines += [
        (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        "",
        f"Versions: {json.dumps(report['versions'])}",
        "",
    ]
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> None:
    from plait.record.recorder import record

    datasets = {}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        for kind, images in (("PNG", "png"), ("video (AV1)", "video")):
            folder = Path(scratch) / images
            record("tabletop", folder, arguments.episodes, {"size": arguments.size}, images=images)
            backends = video_backends(arguments.lerobot_python) if images == "video" else ["pyav"]
            print(kind, file=sys.stderr)
            datasets[kind] = compare(folder, arguments.size, arguments.lerobot_python, backends)
    command = (
        f"python benchmarks/loader.py --lerobot-python ... --size {arguments.size} --episodes {arguments.episodes}"
    )
    report = {
        "hardware": arguments.hardware,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "size": arguments.size,
        "batch": BATCH,
        "versions": versions(arguments.lerobot_python),
        "datasets": datasets,
    }
    target = Path(__file__).parent / "results" / f"loader_{arguments.hardware.replace(' ', '-')}_{report['date']}"
    target.parent.mkdir(exist_ok=True)
    target.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    target.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot-python", help="a Python 3.12 with lerobot 0.6.1")
    parser.add_argument("--hardware", default=f"{os.cpu_count()} CPU cores", help="for the name of the results file")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--scratch", help="folder for the datasets, which are removed at the end")
    parser.add_argument("--lerobot", choices=["pyav", "torchcodec"], help=argparse.SUPPRESS)
    parser.add_argument("--plait", choices=["decode", "cache"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.lerobot:
        print(json.dumps(measure_lerobot(given.folder, given.lerobot)))
    elif given.plait:
        print(json.dumps(measure_plait(given.folder, given.size, given.plait == "cache")))
    elif not given.lerobot_python:
        parser.error("--lerobot-python is needed: a Python 3.12 with lerobot[dataset]==0.6.1")
    else:
        main(given)
