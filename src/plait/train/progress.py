"""What a person sees while a run goes on, and how its speed is measured."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Meter:
    """Counts the samples of a stream and the time spent waiting for them."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.samples, self.waited, self.since = 0, 0.0, time.perf_counter()

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Pass ``batches`` on."""
        stream = iter(batches)
        while True:
            before = time.perf_counter()
            batch = next(stream, None)
            if batch is None:
                return
            self.waited += time.perf_counter() - before
            self.samples += len(batch)
            yield batch

    def rates(self) -> Iterator[tuple[str, float]]:
        """Samples per second and the share of the time (0 to 1) spent waiting for data, since the last call."""
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        yield "samples_per_s", self.samples / elapsed
        yield "data_wait", self.waited / elapsed
        self.restart()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside out of the rates."""
        before = time.perf_counter()
        yield
        self.since += time.perf_counter() - before


class Screen:
    """A progress bar on a terminal; elsewhere one plain line per tenth of the run. Writes to standard error."""

    def __init__(self, total: int, step: int) -> None:
        self.total, self.step, self.told = total, step, step * 10 // total
        self.console = Console(stderr=True)
        columns = (
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.progress.add_task("train", total=total, completed=step, status="")

    def __enter__(self) -> "Screen":
        if self.step:
            print(f"train: continuing after step {self.step} of {self.total}", file=sys.stderr)
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, row: dict[str, float]) -> None:
        """Show the newest row of the log."""
        step = int(row["step"])
        status = f"loss {row['loss']:.4f}"
        if "samples_per_s" in row:
            status += f"  {row['samples_per_s']:,.0f} samples/s  data wait {row['data_wait']:.0%}"
        self.progress.update(self.task, completed=step, status=status)
        if not self.console.is_terminal and step * 10 // self.total > self.told:
            self.told = step * 10 // self.total
            print(f"train: step {step} of {self.total}  {status}", file=sys.stderr, flush=True)
