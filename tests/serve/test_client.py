"""The client: light, never waits for longer than it is told, and comes back by itself."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.server import ServerConnection, serve

from messages import message
from plait import checkpoint
from plait.serve.client import Client, Late, Refused
from plait.serve.codec import pack, unpack
from policies import small_policy
from serving import expected


def test_it_needs_neither_torch_nor_the_rest_of_plait() -> None:
    code = (
        "import sys, plait.serve.client\n"
        "light = {'plait', 'plait.serve', 'plait.serve.client', 'plait.serve.codec'}\n"
        "print({name for name in sys.modules if name.split('.')[0] == 'plait'} - light, 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set() False\n"


@contextmanager
def answering(answer: Callable[[ServerConnection, dict[str, Any], int], None]) -> Iterator[int]:
    """The port of a server that calls ``answer`` with each message and its number."""

    def handle(connection: ServerConnection) -> None:
        connection.send(pack({"execute": 1}))
        for number, sent in enumerate(connection, start=1):
            answer(connection, unpack(sent), number)  # type: ignore[arg-type]

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def reply(number: int, **more: Any) -> bytes:
    return pack({"actions": np.full((2, 3), number, np.float32), "sequence": number, "hold": [0.0, 0.0, 1.0], **more})


def slow_second(connection: ServerConnection, _: dict[str, Any], number: int) -> None:
    time.sleep(0.4 if number == 2 else 0)
    connection.send(reply(number))


def test_a_late_answer_is_held_and_never_executed_later() -> None:
    with answering(slow_second) as port, Client(port=port, timeout=0.2, late="hold") as robot:
        assert robot.infer({})["actions"][0, 0] == 1
        start = time.monotonic()
        held = robot.infer({})
        assert 0.15 < time.monotonic() - start < 0.35
        assert held["late"] is True and held["actions"].tolist() == [[0.0, 0.0, 1.0]]
        assert held["safety"]["mode"] == "hold" and "within 0.2 s" in held["safety"]["reasons"][0]
        time.sleep(0.3)  # the late answer is here by now
        assert robot.infer({})["actions"][0, 0] == 3


def test_a_late_answer_raises_if_asked_to() -> None:
    with answering(slow_second) as port, Client(port=port, timeout=0.2) as robot:
        robot.infer({})
        with pytest.raises(Late, match=r"no answer from ws://127\.0\.0\.1:\d+ within 0\.2 s"):
            robot.infer({})
        time.sleep(0.3)
        assert robot.infer({})["actions"][0, 0] == 3


def test_before_the_first_answer_there_is_nothing_to_hold() -> None:
    def never(*_: Any) -> None:
        pass

    with answering(never) as port, Client(port=port, timeout=0.1, late="hold") as robot, pytest.raises(Late):
        robot.infer({})


def test_a_server_that_does_not_read_holds_up_nobody() -> None:
    def asleep(*_: Any) -> None:
        time.sleep(1.5)

    large = {"image": np.zeros(8_000_000, np.uint8)}
    with answering(asleep) as port, Client(port=port, timeout=0.2) as robot:
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(Late):
                robot.infer(large)
            assert time.monotonic() - start < 1.2


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="no connection to ws://127"):
        Client(port=port, wait=0.3)
    assert 0.25 < time.monotonic() - start < 1.0
    with pytest.raises(ValueError, match="late: 'wait'; say 'raise' or 'hold'"):
        Client(port=port, late="wait")


def test_a_refusal_ends_the_session_and_the_next_call_begins_another() -> None:
    def once(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        if "bad" in sent:
            connection.send("camera 'wrist' is missing")
            connection.close(1011)
        else:
            connection.send(reply(number))

    with answering(once) as port, Client(port=port) as robot:
        assert robot.infer({})["sequence"] == 1
        with pytest.raises(Refused, match="is missing"):
            robot.infer({"bad": 1})
        with pytest.raises(Late, match=r"no connection to .*; the next attempt is in 0\.0"):
            robot.infer({})
        time.sleep(0.1)
        assert robot.infer({})["sequence"] == 1


def launch(folder: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "plait", "serve", str(folder), "--port", str(port), "--batch", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """The robot holds meanwhile, goes on in a new session, and SIGTERM ends the second server cleanly."""
    policy = small_policy()
    checkpoint.save(policy, tmp_path / "policy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = launch(tmp_path / "policy", port)
    try:
        with Client(port=port, timeout=1.0, late="hold", wait=60) as robot:
            chunk = robot.infer(message())["actions"]
            np.testing.assert_allclose(chunk, expected(policy, message()), atol=1e-4)
            server.kill()
            server.wait()
            held = robot.infer(message())
            assert held["late"] is True
            assert held["actions"].tolist() == [[0.0] * 6 + [chunk[3, 6]]], (
                "no motion, and the gripper of the last step"
            )
            server = launch(tmp_path / "policy", port)
            until = time.monotonic() + 60
            while "late" in (answer := robot.infer(message(1))) and time.monotonic() < until:
                time.sleep(0.1)
            np.testing.assert_allclose(answer["actions"], expected(policy, message(1)), atol=1e-4)
            assert answer["sequence"] == 1
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0
            told = server.stdout.read() if server.stdout else ""
            assert told.startswith(f"serving at ws://127.0.0.1:{port} on cpu") and told.endswith("stopped\n")
            assert robot.infer(message())["late"] is True
    finally:
        server.kill()
        server.wait()
