"""A policy that never answers: the server says so, and ends all the same."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from messages import message
from plait import checkpoint
from plait.policy import Policy
from plait.serve import batching
from plait.serve import server as module
from plait.serve.batching import Hung
from plait.serve.client import Client, Late
from plait.serve.codec import pack
from plait.serve.server import ServeConfig, Server
from policies import small_policy
from serving import client, serving

CLI = """
import sys, threading
from plait.cli import main
from plait.serve import batching

batching.CLOSE_S = 0.5
batching.Engine.warm_up = lambda self: None
batching.Engine.__call__ = lambda self, questions: threading.Event().wait()
sys.exit(main(["serve", sys.argv[1], "--port", "0"]))
"""


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Until it is set, the policy answers nothing."""
    over = threading.Event()
    yield over
    over.set()  # no thread outlives its test


def hanging(policy: Policy, over: threading.Event) -> None:
    step = policy.step

    def late(*arguments: object) -> object:
        over.wait()
        return step(*arguments)  # type: ignore[arg-type]

    policy.step = late  # type: ignore[method-assign]


def health(server: Server) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_health_tells_that_the_policy_does_not_answer(over: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HUNG_S", 0.2)
    policy = small_policy()
    with serving(policy) as server, client(server, timeout=0.1) as robot:
        hanging(policy, over)
        assert health(server) == (200, "OK\n"), "nobody has asked"
        with pytest.raises(Late):
            robot.infer(message())
        until = time.monotonic() + 10
        while health(server)[0] == 200 and time.monotonic() < until:
            time.sleep(0.01)
        status, sentence = health(server)
        assert status == 503 and sentence.startswith("the policy has not answered for ")
        over.set()
        while health(server)[0] == 503 and time.monotonic() < until:
            time.sleep(0.01)
        assert health(server)[0] == 200


def test_a_server_waits_for_the_policy_but_not_for_ever(over: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave_while_it_is_asked(policy: Policy) -> None:
        async with AsyncExitStack() as stack:
            async with Server(policy, ServeConfig(port=0, batch=1)) as server:
                hanging(policy, over)
                address = f"ws://127.0.0.1:{server.port}"
                links = [await stack.enter_async_context(connect(address, proxy=None)) for _ in range(2)]
                for link in links:
                    await link.recv()
                    await link.send(pack(message()))
                while not sum(server.metrics.batch.counts):
                    await asyncio.sleep(0.01)
            for link in links:
                with pytest.raises(ConnectionClosed):
                    await link.recv()

    monkeypatch.setattr(batching, "CLOSE_S", 0.2)
    with pytest.raises(Hung, match="the policy has not answered"):
        asyncio.run(leave_while_it_is_asked(small_policy()))
    monkeypatch.setattr(batching, "CLOSE_S", 60.0)
    threading.Timer(0.5, over.set).start()
    asyncio.run(leave_while_it_is_asked(small_policy()))


def test_sigterm_ends_the_command(tmp_path: Path) -> None:
    folder = checkpoint.save(small_policy(), tmp_path / "policy")
    command = [sys.executable, "-c", CLI, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stderr
            port = int(process.stdout.readline().split("ws://127.0.0.1:")[1].split()[0])
            with Client(port=port, timeout=1.0) as robot, pytest.raises(Late):
                robot.infer(message())
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 1
            assert process.stderr.read().startswith("plait: the policy has not answered for ")
        finally:
            process.kill()
