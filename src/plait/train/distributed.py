"""Data-parallel training: the processes that torchrun has started, joined; each sees its part of every batch.

One message per update holds all gradients and losses. DistributedDataParallel would send the first gradients while the
last are computed, but it wraps ``forward`` (here it is ``loss``), splits what torch.compile sees, and has hooks that a
CUDA graph must be warmed up for. By NVLink's bandwidth, the gradients of 30 M parameters take about a millisecond.
Where weights are divided (``sharding.py``), their gradients need no message of ours.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn  # before there is a group: its functions keep the one that they are loaded with for ever
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from plait.data.world import ALONE, World

PATIENCE = timedelta(hours=12)  # the first process may decode a large dataset while the others wait


def launched() -> World:
    """What torchrun says; without torchrun, this process is alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # other launchers set RANK and WORLD_SIZE too, and for other ends
        return ALONE
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Within this, the processes can send each other messages, and ``cuda`` means this process's own GPU.

    Only the first process is heard on standard error. An error in one of them ends all; the one that met it first
    raises it, the others leave in silence.

    Args:
        device: auto, cpu or cuda.

    Raises:
        ValueError: there are fewer GPUs than processes, or one is named.
        SystemExit: another process has failed, or all are interrupted and this is not the first.
    """
    world = launched()
    if world.size == 1:
        yield world
        return
    store, *_ = next(rendezvous("env://"))
    try:
        with _own_gpu(device) as backend, _heard(world.leads):
            dist.init_process_group(backend, None, PATIENCE, world.size, world.rank, store)
            yield world
    except KeyboardInterrupt:
        if world.leads:
            raise
        raise SystemExit(130) from None
    except Exception:  # no farewell to the others: they see that the connection is closed, and it could wait for ever
        if store.add("failed", 1) == 1:
            raise
        raise SystemExit(1) from None
    dist.destroy_process_group()  # its threads end here; those that outlive the interpreter can abort the process


@contextmanager
def _own_gpu(device: str) -> Iterator[str]:
    """The GPU of this process becomes the current one; yields what the messages are sent with."""
    if device == "cpu" or not torch.cuda.is_available():
        yield "gloo"
        return
    own, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device not in ("auto", "cuda"):
        raise ValueError(f"train.device = {device}: each process needs a GPU of its own; leave it at auto.")
    if own >= there:
        raise ValueError(f"more processes than GPUs; say torchrun --nproc-per-node {there}, or --train.device cpu.")
    with torch.cuda.device(own):
        yield "cpu:gloo,cuda:nccl"


@contextmanager
def _heard(heard: bool) -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, nullcontext() if heard else redirect_stderr(nowhere):
        yield


def wait(world: World) -> None:
    """Until all are here. The GPUs go on."""
    any_wishes(False, world)


def any_wishes(wish: bool, world: World) -> bool:
    """Whether any of the processes wishes it; all wait for the answer. The GPUs go on."""
    if world.size == 1:
        return wish
    wishes = torch.tensor(int(wish))
    dist.all_reduce(wishes)
    return wishes.item() > 0


@contextmanager
def first(world: World) -> Iterator[None]:
    """The first process goes in alone, and the others find what it has made."""
    if not world.leads:
        wait(world)
    yield
    if world.leads:
        wait(world)


def average(tensors: Sequence[Tensor], world: World) -> None:
    """Replace each tensor by its mean over the processes. A GPU can replay it as part of a graph."""
    if world.size == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world.size
    parts = flat.split([tensor.numel() for tensor in tensors])
    means = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
    torch._foreach_copy_(list(tensors), means)  # pyright: ignore[reportPrivateImportUsage]


def take_from_first(tensors: Iterable[Tensor], world: World) -> None:
    """Every process gets what the first one has."""
    for tensor in tensors if world.size > 1 else ():
        dist.broadcast(tensor, 0)


def total(values: Sequence[float], world: World) -> list[float]:
    """The sum of each value over the processes; one that has none adds nothing."""
    if world.size == 1:
        return list(values)
    count = torch.tensor(len(values))
    dist.all_reduce(count, dist.ReduceOp.MAX)
    sums = torch.zeros(int(count), dtype=torch.float64)
    sums[: len(values)] = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()
