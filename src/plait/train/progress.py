"""What a person sees while a run goes on, and how its speed is measured."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from plait.progress import Bar


class Meter:
    """Counts the samples of a stream and the time spent waiting for them.

    A GPU works behind the program that feeds it, here at most ``BEHIND`` batches. Neither catching up to that counts as
    waiting, nor a batch that comes while the GPU still works on the last one: only time in which it may stand still.

    Args:
        device: of the model.
        processes: that train together, each on as many samples as this one.
        ideal: seconds that one sample would take at the peak of one GPU, where they are known.
    """

    BEHIND = 2

    def __init__(self, device: torch.device | None = None, processes: int = 1, ideal: float | None = None) -> None:
        self.processes, self.ideal = processes, ideal
        self._behind: deque[torch.cuda.Event] | None = deque() if device and device.type == "cuda" else None
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
            if self._stands_still():
                self.waited += time.perf_counter() - before
            self.samples += self.processes * len(batch)
            yield batch
            self._catch_up()

    def _stands_still(self) -> bool:
        return not self._behind or self._behind[-1].query()

    def _catch_up(self) -> None:
        if self._behind is None:
            return
        event = torch.cuda.Event()
        event.record()
        self._behind.append(event)
        if len(self._behind) > self.BEHIND:
            self._behind.popleft().synchronize()

    def rates(self) -> Iterator[tuple[str, float]]:
        """Since the last call: samples per second, the share of the time (0 to 1) spent waiting for data, and that of
        the GPUs' peak that is used (MFU), where it is known."""
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        yield "samples_per_s", self.samples / elapsed
        yield "data_wait", self.waited / elapsed
        if self.ideal is not None:
            yield "mfu", self.ideal * self.samples / self.processes / elapsed
        self.restart()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside out of the rates."""
        before = time.perf_counter()
        yield
        self.since += time.perf_counter() - before


class Screen(Bar):
    """How far the run is, with what the newest row of the log says."""

    def __init__(self, total: int, step: int) -> None:
        super().__init__("train", total, "steps", step)

    def __enter__(self) -> "Screen":
        if self.completed:
            print(f"train: continuing after step {self.completed} of {self.total}", file=sys.stderr)
        super().__enter__()
        return self

    def show(self, row: dict[str, float]) -> None:
        """Show the newest row of the log."""
        status = f"loss {row['loss']:.4f}"
        if "samples_per_s" in row:
            status += f"  {speed(row)}"
        self.advance(int(row["step"]) - self.completed, status)


def speed(rates: dict[str, float]) -> str:
    """What ``Meter.rates`` has measured, in words."""
    used = f", MFU {rates['mfu']:.1%}" if "mfu" in rates else ""
    return f"{rates['samples_per_s']:,.0f} samples/s, data wait {rates['data_wait']:.1%}{used}"
