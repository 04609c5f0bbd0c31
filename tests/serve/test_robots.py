"""A safety envelope belongs to a robot: what must not be forgotten stays when its connection ends."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.protocol import State

from messages import message
from plait.policy import Policy
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.modes import Mode
from plait.serve.client import Client, Late, Refused
from plait.serve.robots import KEPT, Robots
from plait.serve.server import Server
from plait.types import Observation
from policies import SPEC, random_observation, small_policy
from serving import client, serving

BLIND = {"observation/image": None, "observation/wrist_image": None}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


@pytest.fixture
def server(policy: Policy) -> Iterator[Server]:
    settings = SafetyConfig(stop_after=2, stale_after=600)  # the machine that runs this may be busy
    with serving(policy, lambda: Envelope(SPEC, settings), silence_ms=60_000) as server:
        yield server


def mode(robot: Client, **changes: Any) -> str:
    return robot.infer({**message(), **changes})["safety"]["mode"]


def stop(robot: Client) -> None:
    """The first observation of a session has to fit."""
    assert [mode(robot), mode(robot, **BLIND), mode(robot, **BLIND)] == ["nominal", "hold", "stopped"]


@pytest.mark.parametrize("robot", ["left", ""])
def test_a_stopped_robot_that_connects_anew_is_still_stopped_until_its_reset(server: Server, robot: str) -> None:
    with client(server, robot=robot) as first:
        stop(first)
    with client(server, robot=robot) as second:
        answer = second.infer(message())
        assert answer["safety"]["mode"] == "stopped" and "no camera is left" in answer["safety"]["reasons"]
        assert second.reset()["safety"]["mode"] == "nominal"
        assert mode(second) == "nominal"
    with client(server, robot=robot) as third:
        assert mode(third) == "nominal"


def test_an_answer_that_could_not_be_sent_is_not_what_the_gripper_was_told(server: Server, policy: Policy) -> None:
    """The client leaves while the policy computes; what it says then has reached nobody."""
    step, gone = policy.step, threading.Event()
    with client(server, robot="left") as first:
        told = first.infer(message())["hold"][6]

        def slow(*arguments: Any) -> Any:
            chunk, memory = step(*arguments)
            gone.wait(10)
            return chunk + 1, memory

        policy.step = slow
        (session,) = server._sessions
        first.timeout = 0.1
        with pytest.raises(Late):
            first.infer(message(1))
    while session.connection.state is not State.CLOSED:
        time.sleep(0.01)
    gone.set()
    while server._sessions:
        time.sleep(0.01)
    policy.step = step
    (whose, envelope), *_ = server._robots._kept
    assert whose == "robot left" and envelope.still()[6] == pytest.approx(told)


def test_a_stop_is_nobody_elses(server: Server) -> None:
    with client(server, robot="left") as left:
        stop(left)
    with client(server, robot="right") as right, client(server) as nameless:
        assert [mode(right), mode(nameless)] == ["nominal"] * 2
        stop(nameless)
    with client(server) as one, client(server) as other:
        assert [mode(one), mode(other)] == ["stopped", "nominal"], "one session takes one envelope"


def test_a_named_robots_gripper_stays_as_it_was_told(server: Server) -> None:
    black = {key: np.zeros((32, 32, 3), np.uint8) for key in BLIND}
    with client(server, robot="left") as robot:
        told = robot.infer(message())["hold"][6]
        assert abs(told) > 1e-3
    for name, gripper in (("left", told), ("right", 0.0)):
        with client(server, robot=name) as robot:
            held = robot.infer({**message(), **black})
            assert held["safety"]["mode"] == "hold"
            assert held["hold"] == [0.0] * 6 + [gripper]


def test_a_pause_of_a_named_robot_alarms_nobody() -> None:
    robots, observation = Robots(lambda: Envelope(SPEC)), random_observation(1)
    with robots.connected("left", "") as first:
        assert first is not None and first.judge(observation, 0.0).mode is Mode.NOMINAL
        assert first.judge(replace(observation, state=None), 0.1).mode is Mode.DEGRADED
    with robots.connected("left", "") as second:
        assert second is not None and second is first
        second.silent(1000.0)
        modes = [second.judge(observation, 1000.0 + tick / 10).mode for tick in range(10)]
        assert modes == [Mode.DEGRADED] * 8 + [Mode.NOMINAL] * 2, "trusted at the fifth, and then 5 better ones"


@pytest.mark.parametrize("robot", ["left", ""])
def test_a_camera_that_froze_is_not_trusted_for_connecting_anew(policy: Policy, robot: str) -> None:
    camera = message()
    moved = [{**camera, "observation/state": np.full(8, 0.02 * tick, np.float32)} for tick in range(8)]
    with serving(policy, lambda: Envelope(SPEC, SafetyConfig(stale_after=600)), silence_ms=60_000) as server:
        with client(server, robot=robot) as first:
            assert [first.infer(seen)["safety"]["mode"] for seen in moved[:4]] == ["nominal", "nominal", "hold", "hold"]
        with client(server, robot=robot) as second:
            answers = [second.infer(seen) for seen in moved[4:]]
    assert [answer["safety"]["mode"] for answer in answers] == ["hold"] * 4
    assert not any(answer["actions"][:, :6].any() for answer in answers)


def test_openpis_address_can_name_a_robot(server: Server) -> None:
    with Client(f"ws://127.0.0.1:{server.port}/?robot=left%20arm", None, timeout=20) as robot:
        stop(robot)
    with client(server, robot="left arm") as robot:
        assert mode(robot) == "stopped"


def test_a_name_is_one_robots_alone(server: Server) -> None:
    with client(server, robot="left") as first:
        with pytest.raises(ConnectionError, match="robot 'left' is connected already"):
            client(server, robot="left", wait=0.1)
        assert mode(first) == "nominal"
    with client(server, robot="left") as second:
        assert mode(second) == "nominal"


def test_a_robot_whose_old_connection_is_not_yet_over_tries_again(server: Server) -> None:
    with client(server, robot="left") as robot:
        robot.close()  # as if it were lost
        with client(server, robot="left"), pytest.raises(Late, match="robot 'left' is connected already"):
            robot.infer(message())


@pytest.mark.parametrize("name", ["x" * 65, "a\nb"])
def test_a_name_that_cannot_be(server: Server, name: str) -> None:
    with pytest.raises(Refused, match=r"robot: .*; a name has at most 64 printable characters"):
        client(server, robot=name)


def test_a_stop_is_kept_before_what_is_nominal() -> None:
    robots, blind = Robots(lambda: Envelope(SPEC, SafetyConfig(stop_after=1))), Observation({}, None, [""])
    with robots.connected("arm", "") as envelope:
        assert envelope is not None and envelope.judge(blind, 0.0).mode is Mode.STOPPED
    for number in range(KEPT + 1):
        with robots.connected(f"robot {number}", ""):
            pass
    with robots.connected("arm", "") as envelope:
        assert envelope is not None and envelope.mode is Mode.STOPPED


def test_the_oldest_envelope_is_dropped_first() -> None:
    robots, blind = Robots(lambda: Envelope(SPEC, SafetyConfig(stop_after=1))), Observation({}, None, [""])
    for number in range(KEPT + 1):
        with robots.connected(f"robot {number}", "") as envelope:
            assert envelope is not None and envelope.judge(blind, 0.0).mode is Mode.STOPPED
    found = []
    for number in (1, KEPT, 0):
        with robots.connected(f"robot {number}", "") as envelope:
            found.append(envelope and envelope.mode)
    assert found == [Mode.STOPPED, Mode.STOPPED, Mode.NOMINAL]
