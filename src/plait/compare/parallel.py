"""Several cells at the same time, each in a process of its own: small policies leave most of a GPU idle.

Where there are several GPUs, the jobs are spread over them.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from plait.compare.bench import Bench, as_message
from plait.compare.cell import Cell, Setup
from plait.config import from_dict
from plait.processes import Channel, Gone, Worker, processors, stop

PATIENCE = 60.0  # seconds for an interrupted training to write its checkpoint


def run_parallel(bench: Bench, cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell and what it has found, as they finish.

    Raises:
        ValueError, OSError, RuntimeError: what went wrong in a cell; the others write a checkpoint and stop.
    """
    simulators = bench.workers or max(1, processors() // jobs)
    waiting, busy = list(cells), {}
    workers = [Worker(f"job {number}", "plait.compare.parallel:work") for number in range(min(jobs, len(cells)))]
    try:
        for number, worker in enumerate(workers):
            worker.send(as_message(bench.setup, bench.folder, spread(bench.device, number), simulators))
            busy[worker.connection] = worker, _give(worker, waiting.pop(0))
        while busy:
            for connection in wait(list(busy)):
                worker, cell = busy.pop(connection)
                yield cell, _result(worker, cell)
                if waiting:
                    busy[worker.connection] = worker, _give(worker, waiting.pop(0))
    finally:
        _interrupt([worker for worker, _ in busy.values()])
        stop(workers)


def work(channel: Channel) -> None:
    """A job's side: told the bench, then one cell after another."""
    told = json.loads(channel.receive())
    os.environ.pop("OMP_NUM_THREADS", None)  # what it starts may decide anew
    bench = Bench(Path(told["folder"]), from_dict(Setup, told["setup"]), told["device"], told["workers"])
    while True:
        cell = from_dict(Cell, json.loads(channel.receive()))
        channel.send(json.dumps(bench.run(cell)).encode())


def spread(device: str, number: int) -> str:
    """The device of the job with this number: where no GPU is named, the jobs take turns over all there are."""
    gpus = torch.cuda.device_count()
    return f"cuda:{number % gpus}" if device in ("auto", "cuda") and gpus else device


def _give(worker: Worker, cell: Cell) -> Cell:
    worker.send(json.dumps(asdict(cell)).encode())
    return cell


def _result(worker: Worker, cell: Cell) -> dict[str, Any]:
    try:
        return json.loads(worker.receive())
    except Gone:
        raise RuntimeError(worker.obituary(f" in the cell {cell}")) from None
    except (ValueError, OSError, RuntimeError) as error:
        raise type(error)(f"{cell}: {error}") from error


def _interrupt(workers: Sequence[Worker]) -> None:
    """Let each write its checkpoint."""
    for worker in workers:
        worker.process.send_signal(signal.SIGINT)
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(PATIENCE)
