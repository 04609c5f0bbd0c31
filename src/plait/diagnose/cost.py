"""What one call of a module costs: parameters, arithmetic, time and memory."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from plait.nn.flops import flops
from plait.types import Shape, Tokens

WARM_UP, FEWEST, MOST = 3, 20, 200  # calls
SECONDS = 2.0


@dataclass(frozen=True)
class Cost:
    """Of one call.

    Attributes:
        parameters: of the module.
        flops: multiplications and additions in matrix products, convolutions, attention and recurrent layers.
        p50_ms, p99_ms: median and 99th percentile of the time, in milliseconds.
        peak_bytes: memory that the call takes at its highest point, besides the weights and what it is given.
    """

    parameters: int
    flops: int
    p50_ms: float
    p99_ms: float
    peak_bytes: int


def cost_cells(cost: Cost, unit: float = 1e9) -> tuple[str, ...]:
    """For a table: parameters, FLOPs in ``unit`` (GFLOPs), median, 99th percentile, memory."""
    return (
        f"{cost.parameters / 1e6:.2f} M",
        f"{cost.flops / unit:.3f}",
        f"{cost.p50_ms:.2f} ms",
        f"{cost.p99_ms:.2f} ms",
        f"{cost.peak_bytes / 2**20:.1f} MiB",
    )


def measure(module: nn.Module, call: Callable[[], Any], device: torch.device, seconds: float = SECONDS) -> Cost:
    """Measure ``call``, which runs ``module`` once, on ``device``. Repeat it as it shall be used: mode, autocast,
    with or without gradients. ``seconds``: after them no further call is timed, once there are ``FEWEST``.
    """
    for _ in range(WARM_UP):
        call()
    milliseconds = sorted(timed(call, device, seconds))
    worst = milliseconds[min(len(milliseconds) - 1, round(0.99 * len(milliseconds)))]
    peak = peak_bytes(call, device)
    return Cost(parameters(module), flops(call), statistics.median(milliseconds), worst, peak)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def timed(call: Callable[[], Any], device: torch.device, seconds: float = SECONDS) -> list[float]:
    """Milliseconds of each call, until its result is there."""
    found, began = [], time.perf_counter()
    while len(found) < FEWEST or (len(found) < MOST and time.perf_counter() - began < seconds):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(1000 * (time.perf_counter() - start))
    return found


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """What PyTorch's allocator holds at most during the call, beyond what it held before.

    On a CPU it is the running sum of the profiler's allocations: the process's own size would tell little, for freed
    memory stays with it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's remarks on missing GPUs help nobody here
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    recorded: list[Any] = profiled.profiler.kineto_results.events()
    events = [event for event in recorded if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes), default=0)


def random_tokens(shapes: dict[str, Shape], rows: int, device: torch.device) -> dict[str, Tokens]:
    """Groups of tokens as encoders would give them, all valid."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: Tokens.valid(torch.randn(rows, shape.n, shape.dim, generator=generator).to(device), shape.grid)
        for name, shape in shapes.items()
    }
