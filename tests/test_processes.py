import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import socketpair

import numpy as np
import pytest

from plait.processes import Channel, Gone, Worker, processors, stop


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    worker = Worker("worker 3", f"duties:{request.param}")
    yield worker
    stop([worker])


@pytest.mark.parametrize("worker", ["echo"], indirect=True)
def test_messages_arrive_whole(worker: Worker):
    for message in (b"", b"e", bytes(range(256)) * 4096):
        worker.send(message)
        assert worker.receive() == message


def test_arrays_follow_messages_whole_or_not_at_all():
    here, there = (Channel(end.detach()) for end in socketpair())
    sent = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), np.uint8)
    got = np.zeros_like(sent)
    with ThreadPoolExecutor(1) as pool:
        for message in (b"first", b"second"):
            sending = pool.submit(lambda m=message: (there.send(m), there.send_raw(sent.data)))
            assert here.receive() == message
            here.receive_raw(got.data)
            sending.result()
            assert np.array_equal(sent, got)
    there.send_raw(sent[0].data)
    there.connection.close()
    with pytest.raises(Gone):
        here.receive_raw(got.data)
    with pytest.raises(Gone):
        here.send_raw(sent.data)


@pytest.mark.parametrize("worker", ["fail"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("ValueError", ValueError, "in vain"),
        ("OSError", OSError, "in vain"),
        ("other", RuntimeError, "ZeroDivisionError: in vain"),
    ],
)
def test_errors_are_raised_here(worker: Worker, kind: str, error: type[Exception], text: str):
    worker.send(kind.encode())
    with pytest.raises(error, match=f"^{text}$"):
        worker.receive()


@pytest.mark.parametrize("worker", ["die"], indirect=True)
def test_a_dead_worker_has_an_obituary(worker: Worker):
    with pytest.raises(Gone):
        worker.receive()
    worker.send(b"is lost")
    told = rf"worker 3 (process {worker.process.pid}) ended with status 7 while it slept: "
    assert worker.obituary(" while it slept").startswith(told)
    assert worker.obituary().endswith(("the last line", "a warning"))


@pytest.mark.parametrize("worker", ["sleep"], indirect=True)
def test_a_killed_worker_may_have_lacked_memory(worker: Worker):
    worker.receive()
    worker.process.kill()
    assert "was killed by signal 9 (out of memory?)" in worker.obituary()


def test_stopping_waits_for_the_idle_and_kills_the_busy():
    team = [Worker(name, f"duties:{name}") for name in ("echo", "sleep")]
    team[1].receive()
    team[0].send(b""), team[0].receive()
    began = time.monotonic()
    stop(team, patience=0.5)
    assert [worker.process.returncode for worker in team] == [0, -signal.SIGKILL]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("module", ["plait.record.worker", "plait.evaluate.worker"])
@pytest.mark.parametrize("worker", ["import_named"], indirect=True)
def test_what_simulates_loads_neither_torch_nor_what_only_datasets_need(worker: Worker, module: str):
    worker.send(module.encode())
    loaded = set(json.loads(worker.receive()))
    assert module in loaded
    assert not loaded & {"torch", "torchvision", "jaxtyping", "pyarrow", "av", "rich", "matplotlib"}


@pytest.mark.parametrize("worker", ["describe"], indirect=True)
def test_a_worker_has_one_thread_and_a_fresh_interpreter(worker: Worker):
    told = json.loads(worker.receive())
    assert told["threads"] == ["1", "0"]
    assert "pytest" not in told["modules"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_workers_end_when_the_main_process_is_killed():
    code = (
        "from plait.processes import Worker; w = Worker('w', 'duties:echo'); w.send(b''); w.receive();"
        "print(w.process.pid, flush=True); input()"
    )
    path = {"PYTHONPATH": str(Path(__file__).parent)}
    main = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | path, text=True
    )
    assert main.stdout is not None
    child = int(main.stdout.readline())
    main.kill(), main.communicate()
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_there_is_a_processor():
    assert 1 <= processors() <= (os.cpu_count() or 1)
