"""Trainings that several processes run together, as torchrun would start them."""

import os
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch
from torch.distributed import TCPStore

Job = tuple[Any, ...]  # the arguments of plait.train.policy.train
Ends = list[tuple[str, int]]  # of each job in one process: how it ended, and how many checkpoints it wrote


def train(jobs: list[Job], processes: int = 2) -> list[Ends]:
    """Run the jobs one after the other; how each ended, by process. Only the last may fail."""
    context = get_context("spawn")
    stores = [TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in jobs]
    results, ports = context.SimpleQueue(), [store.port for store in stores]
    shares = [(rank, processes, jobs, ports, results) for rank in range(processes)]
    team = [context.Process(target=_work, args=share, daemon=True) for share in shares]
    for process in team:
        process.start()
    ends = dict(results.get() for _ in team)
    for process in team:
        process.join()
    return [ends[rank] for rank in range(processes)]


def _work(rank: int, size: int, jobs: list[Job], ports: list[int], results: Any) -> None:
    torch.set_num_threads(1)
    place = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1"}
    place |= {"TORCHELASTIC_RUN_ID": 0, "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
    os.environ.update({name: str(value) for name, value in place.items()})
    results.put((rank, [_run(job, port) for job, port in zip(jobs, ports, strict=True)]))


def _run(job: Job, port: int) -> tuple[str, int]:
    from plait import checkpoint
    from plait.train.policy import train

    os.environ["MASTER_PORT"] = str(port)
    save, saved = checkpoint.save, []
    checkpoint.save = _noting(save, saved)
    try:
        train(*job)
        end = "finished"
    except BaseException as error:
        end = f"{type(error).__name__}: {error}"
    checkpoint.save = save
    return end, len(saved)


def _noting(save: Callable[..., Any], saved: list[Any]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        saved.append(arguments)
        return save(*arguments)

    return noted
