"""A policy that never answers: its robots hold and are told so, may connect anew, and the server ends all the same."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from messages import message
from plait import checkpoint
from plait.policy import Policy
from plait.safety.audit import Audit
from plait.safety.envelope import Envelope
from plait.serve import batching
from plait.serve import server as module
from plait.serve.batching import Answer, Batcher, Engine, Hung, Question
from plait.serve.client import Client, Late, Refused
from plait.serve.codec import pack
from plait.serve.server import ServeConfig, Server
from policies import SPEC, random_observation, small_policy
from serving import client, expected, serving

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


DEAD = "the policy failed (RuntimeError: CUDA error: an illegal memory access)"


def dead(*_: object) -> object:
    raise RuntimeError("CUDA error: an illegal memory access\nand pages of advice")


@pytest.mark.parametrize("where", ["step", "prepare"])
def test_a_policy_that_fails_makes_its_robots_hold_and_health_tell(where: str, tmp_path: Path) -> None:
    """The session goes on, and all is well again as soon as the policy is."""
    policy, audit = small_policy(action_horizon=3, execute=2), Audit(tmp_path / "audit.jsonl")
    with serving(policy, lambda: Envelope(SPEC, audit=audit), silence_ms=600) as server, client(server) as robot:
        gripper, sound = robot.infer(message())["hold"][6], getattr(policy, where)
        setattr(policy, where, dead)
        for seed in range(3):
            assert health(server) == (200, "OK\n")
            reply = robot.infer(message(seed))
            assert reply["safety"] == {"mode": "hold", "reasons": [DEAD]}
            assert reply["actions"].tolist() == [reply["hold"]] * 3 and reply["hold"] == [0.0] * 6 + [gripper]
        assert health(server) == (503, f"{DEAD}, 3 times in a row\n")
        (session,) = server._sessions
        assert soon(lambda: session.envelope is not None and session.envelope.mode.stands)
        assert f'"to": "hold", "reasons": ["{DEAD}"]' in (tmp_path / "audit.jsonl").read_text()
        assert robot.infer(message())["safety"] == {"mode": "hold", "reasons": [DEAD]}
        assert server.metrics.faults["policy_failed"] == 4 and not server.metrics.faults["unanswered"]
        setattr(policy, where, sound)
        assert robot.reset() and robot.infer(message(9))["safety"] == {"mode": "nominal", "reasons": []}
        assert health(server) == (200, "OK\n")
    audit.close()


def test_a_refusal_of_one_observation_is_no_failure_of_the_policy() -> None:
    policy = small_policy()
    with serving(policy) as server:
        for _ in range(4):
            with client(server) as robot, pytest.raises(Refused, match="17 words"):
                robot.infer({**message(), "prompt": "go " * 17})
        assert health(server) == (200, "OK\n") and not server.metrics.faults["policy_failed"]


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_a_robot_is_told_to_hold_and_why(over: threading.Event, tmp_path: Path) -> None:
    """It waits for each answer, as openpi's client does. At 10 Hz: a chunk of 3 is over after 0.3 s, and after 0.5 s
    without an answer the watchdog holds.
    """
    policy = small_policy(action_horizon=3, execute=2)
    audit = Audit(tmp_path / "audit.jsonl")
    with serving(policy, lambda: Envelope(SPEC, audit=audit), silence_ms=500) as server, client(server) as robot:
        gripper = robot.infer(message())["hold"][6]
        hanging(policy, over)
        for seed, reason in enumerate(("the policy has not answered for 0.3 s", "the policy does not answer"), start=1):
            start = time.monotonic()
            reply = robot.infer(message(seed))
            assert 0.25 < time.monotonic() - start < 2
            assert reply["actions"].tolist() == [reply["hold"]] * 3 and reply["hold"] == [0.0] * 6 + [gripper]
            assert reply["safety"] == {"mode": "hold", "reasons": [reason]}
        (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
        assert '"to": "hold", "reasons": ["the policy does not answer"]' in line
        assert server.metrics.faults["unanswered"] == 2 and server.metrics.faults["silent"] == 0
        over.set()
        assert soon(lambda: server._batcher.waited == 0)
        modes = [robot.infer(message(seed))["safety"]["mode"] for seed in range(3, 15)]
        assert modes[:5] == ["hold"] * 5 and modes[-1] == "nominal", "after a while of answers"
    audit.close()


@pytest.mark.parametrize("enveloped", [True, False])
def test_a_robot_may_connect_anew(over: threading.Event, enveloped: bool) -> None:
    policy = small_policy()
    with serving(policy, (lambda: Envelope(SPEC)) if enveloped else None) as server:
        with client(server, robot="left", timeout=0.1) as robot:
            hanging(policy, over)
            with pytest.raises(Late):
                robot.infer(message())
        assert soon(lambda: not server._sessions), "its session has ended, though the policy computes for it"
        with client(server, robot="left", timeout=0.1) as robot, pytest.raises(Late, match="no answer from"):
            robot.infer(message(1))
        over.set()
        assert soon(lambda: server._batcher.waited == 0)
        with client(server, robot="left", wait=5) as robot:
            np.testing.assert_allclose(
                robot.infer(message(2))["actions"], expected(policy, message(2)), rtol=1e-4, atol=1e-5
            )


def test_what_is_asked_meanwhile_does_not_heap_up(over: threading.Event) -> None:
    """But for what is asked before it is known that it hangs."""
    policy = small_policy()

    async def asked(batcher: Batcher) -> list[Answer | None]:
        question = Question(random_observation(1), None, True)
        batcher.start()
        first = batcher.ask(question, 0.05)
        found = [await batcher.ask(question, 0.05) for _ in range(6)]
        assert batcher._queue.qsize() <= 2 and not first.cancelled()
        over.set()
        found.append(await batcher.ask(question))
        await batcher.close()
        return found

    hanging(policy, over)
    found = asyncio.run(asked(Batcher(Engine(policy), 0.0, lambda: 1, lambda size: None)))
    assert found[:-1] == [None] * 6 and found[-1] is not None


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
            with Client(port=port) as robot:
                assert robot.infer(message())["safety"]["mode"] == "hold"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 1
            assert process.stderr.read().startswith("plait: the policy has not answered for ")
        finally:
            process.kill()
