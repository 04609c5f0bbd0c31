"""Samples per second while training, and the share of the time that is spent waiting for data.

    python benchmarks/training.py --out runs/training --hardware H100

Each run is ``plait train`` in a process of its own, stopped after a minute that begins when the first updates are in
its log (importing, decoding into the cache and recording a CUDA graph are over). The log is read from the update
``--skip`` on; validations are not counted, checkpoints are. On a GPU each recipe is trained as it is, as a CUDA graph,
and with each kernel launched on its own.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import tyro
from publish import RESULTS, publish, table

from plait.nn.device import has_bfloat16
from plait.quickstart.report import duration
from plait.recipes import RECIPES, Recipe
from plait.record.recorder import record
from plait.train.tracker import read_log


@dataclass(frozen=True)
class Training:
    """A recipe, what is changed in it, and what its demonstrations show."""

    recipe: str
    env: str
    env_args: dict[str, Any]
    options: tuple[str, ...] = ()

    @property
    def dataset(self) -> str:
        """A name for it, the same where the demonstrations are."""
        return "-".join(map(str, (self.env, *self.env_args.values())))


RESNET = ("--vision", "timm", "--image-size", "128")  # timm's resnet18, from scratch
TRANSFORMER = ("--fusion", "unified", "--fusion.stages", "--fusion.stride", "1", "--fusion.dim", "384")
TRANSFORMER += ("--fusion.heads", "6", "--fusion.layers", "8", "--fusion.width", "384")  # of 30 M parameters in all
TRAININGS = {
    "tabletop-pick": Training("tabletop-pick", "tabletop", {"vocabulary": "small"}),
    "tabletop": Training("tabletop", "tabletop", {"family": "mixed", "vocabulary": "large", "size": 96}),
    "metaworld-mt50": Training("metaworld-mt50", "metaworld", {"size": 160}),
    "metaworld-mt50, ResNet-18, 128 pixels": Training(
        "metaworld-mt50", "metaworld", {"size": 128}, (*RESNET, "--fusion.stages", "512", "--fusion.cells", "4")
    ),
    "metaworld-mt50, ResNet-18 and a transformer, 128 pixels": Training(
        "metaworld-mt50", "metaworld", {"size": 128}, (*RESNET, *TRANSFORMER)
    ),
}
FOREVER = 1_000_000  # updates
PATIENCE = 600.0  # seconds until the first updates are in the log
HEADER = (
    "recipe",
    "device",
    "CUDA graph",
    "samples/s",
    "slowest – fastest window",
    "data wait",
    "MFU",
    "updates x samples",
    "format",
)


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    title: str
    device: str
    cuda_graph: bool

    @property
    def training(self) -> Training:
        return TRAININGS[self.title]

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.training.recipe]()

    @property
    def name(self) -> str:
        """Of its files."""
        title = self.title.replace(", ", "-").replace(" ", "-")
        return f"{title}-{self.device}{'-graph' if self.cuda_graph else ''}"


@dataclass(frozen=True)
class Result:
    """How fast it was: over all, and in the windows between two lines on the screen."""

    case: Case
    batch_size: int
    updates: int
    samples_per_s: float
    data_wait: float
    mfu: float | None
    windows: list[float]

    @property
    def row(self) -> list[str]:
        number = "bfloat16" if has_bfloat16(torch.device(self.case.device)) else "float32"
        graph = "–" if self.case.device == "cpu" else "yes" if self.case.cuda_graph else "no"
        speed = (
            f"{self.samples_per_s:,.0f}",
            f"{min(self.windows):,.0f} – {max(self.windows):,.0f}",
            _percent(self.data_wait),
            "–" if self.mfu is None else _percent(self.mfu),
        )
        updates = f"{self.updates} x {self.batch_size}"
        return [self.case.title, self.case.device, graph, *speed, updates, number]


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def cases(recipes: tuple[str, ...] | None, devices: tuple[str, ...] | None, graphs_only: bool) -> Iterator[Case]:
    """On a processor only the small recipe, unless others are named."""
    for device in devices or (("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)):
        for title in recipes or (("tabletop-pick",) if device == "cpu" else TRAININGS):
            for cuda_graph in (False,) if device == "cpu" else (True,) if graphs_only else (True, False):
                yield Case(title, device, cuda_graph)


def train(case: Case, dataset: Path, run: Path, seconds: float) -> None:
    """Train into a new folder ``run``; stop as Ctrl-C does.

    Raises:
        RuntimeError: it ended on its own, or did not begin.
    """
    shutil.rmtree(run, ignore_errors=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    options = ["--dataset", str(dataset), "--out", str(run), "--train.device", case.device]
    options += case.training.options
    if case.cuda_graph != case.recipe.train.cuda_graph:  # only the other way is an option
        options.append(f"--train.{'' if case.cuda_graph else 'no-'}cuda-graph")
    command = [sys.executable, "-m", "plait", "train", case.training.recipe, *options, "--train.steps", str(FOREVER)]
    printed = run.with_suffix(".txt")
    with printed.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            began = time.monotonic()
            while not read_log(run) and process.poll() is None and time.monotonic() - began < PATIENCE:
                time.sleep(1)
            started = bool(read_log(run))
            if started:
                time.sleep(seconds)
            ended = process.poll() is not None
        finally:
            process.send_signal(signal.SIGINT)
    if ended or not started:
        raise RuntimeError(f"{' '.join(command[2:])} did not train until it was stopped; see {printed}")


def read(case: Case, run: Path, skip: int) -> Result:
    """The speed from the update ``skip`` on, by the rows of the log that have one."""
    batch_size, rows = case.recipe.train.batch_size, [row for row in read_log(run) if "samples_per_s" in row]
    before = [row["step"] for row in rows if row["step"] <= skip]
    rows, first = rows[len(before) :], int(max(before, default=0))
    if not rows:
        raise RuntimeError(f"{run}: its log ends before update {skip}; more --seconds, or less --skip")
    steps = [first, *(int(row["step"]) for row in rows)]
    samples = [batch_size * (after - before) for before, after in pairwise(steps)]
    seconds = [count / row["samples_per_s"] for count, row in zip(samples, rows, strict=True)]
    waited = sum(row["data_wait"] * passed for row, passed in zip(rows, seconds, strict=True))
    windows = [row["samples_per_s"] for row in rows]
    updates, total = steps[-1] - first, sum(seconds)
    speed = sum(samples) / total
    mfu = speed * rows[-1]["mfu"] / rows[-1]["samples_per_s"] if "mfu" in rows[-1] else None  # in proportion to it
    return Result(case, batch_size, updates, speed, waited / total, mfu, windows)


def machine() -> str:
    """What computes, and with how many threads."""
    gpu = f"{torch.cuda.get_device_name()}; " if torch.cuda.is_available() else ""
    return f"{gpu}{torch.get_num_threads()} threads of torch on the processor"


def main(
    out: Path,
    hardware: str = "2 CPU cores",
    recipes: tuple[str, ...] | None = None,
    devices: tuple[str, ...] | None = None,
    graphs_only: bool = False,
    demonstrations: int = 200,
    seconds: float = 60.0,
    skip: int = 100,
    workers: int = 2,
    report: Path = RESULTS,
) -> None:
    """Record and train; prints a table and writes it.

    Args:
        out: folder of the datasets, which are kept, and of the runs.
        hardware: as it shall stand in the file's name.
        recipes: names among ``TRAININGS``; when left out, all on a GPU and the first on a processor.
        devices: cpu, cuda; what the machine has when left out.
        graphs_only: on a GPU, not with each kernel launched on its own.
        demonstrations: of each dataset.
        seconds: of each training.
        skip: updates at the beginning that do not count.
        workers: processes that record.
        report: folder of the results file.
    """
    chosen = list(cases(recipes, devices, graphs_only))
    for shown in {case.training.dataset: case.training for case in chosen}.values():
        data = out / "data" / shown.dataset
        print(record(shown.env, data, demonstrations, shown.env_args, workers, images="png", cache=True), flush=True)
    found = []
    for case in chosen:
        train(case, out / "data" / case.training.dataset, out / case.name, seconds)
        found.append(read(case, out / case.name, skip))
        print(table(HEADER, [found[-1].row]).splitlines()[-1], flush=True)
    about = f"{machine()}. {demonstrations} demonstrations (seed 0), training seed 0, {duration(seconds)} each."
    rows = table(HEADER, [result.row for result in found])
    windows = "A window is the 20 updates between two lines on the screen; the format is that of the forward pass."
    data = {"machine": machine(), "demonstrations": demonstrations, "seconds": seconds, "skip": skip}
    data["results"] = [asdict(result) for result in found]
    publish("training", "Throughput of training", hardware, f"{about}\n\n{rows}\n\n{windows}", data, report)


if __name__ == "__main__":
    tyro.cli(main)
