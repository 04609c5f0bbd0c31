"""A safety envelope belongs to a robot: what must not be forgotten stays when its connection ends."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.protocol import State

from fuzzing import Link
from messages import message
from plait.policy import Policy
from plait.safety.audit import Audit
from plait.safety.bounds import LimitsConfig
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.modes import Mode
from plait.serve import session
from plait.serve.client import Client, Late, Refused
from plait.serve.robots import KEPT, Robots
from plait.serve.server import Server
from plait.types import Observation
from policies import SPEC, random_observation, small_policy
from serving import client, serving

SAYS = "stopped before it connected, says the client"
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


def enveloped(audit: Audit | None = None) -> Callable[[], Envelope]:
    return lambda: Envelope(SPEC, SafetyConfig(stop_after=2, stale_after=600), audit=audit)


def moved(robot: Client, server: Server) -> None:
    """As if the server had been started anew, at the robot's address."""
    robot.close()
    robot.address = f"ws://127.0.0.1:{server.port}"


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
    (whose, robot), *_ = server._robots._kept
    assert whose == "robot left" and robot.envelope.still()[6] == pytest.approx(told)  # type: ignore[union-attr]


@pytest.mark.parametrize("robot", ["left", ""])
def test_a_stop_outlives_the_server(policy: Policy, robot: str, tmp_path: Path) -> None:
    """The client tells the server that was started anew, until a reset has been answered."""
    audit = Audit(tmp_path / "audit.jsonl")
    with serving(policy, enveloped(audit), silence_ms=60_000) as first:
        arm = client(first, robot=robot)
        stop(arm)
    with serving(policy, enveloped(audit), silence_ms=60_000) as second:
        moved(arm, second)
        answer = arm.infer(message())
        assert answer["safety"] == {"mode": "stopped", "reasons": [SAYS]} and not answer["actions"][:, :6].any()
        assert mode(arm) == "stopped"
        last = json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[-1])
        assert (last["from"], last["to"], last["reasons"]) == ("nominal", "stopped", [SAYS])
        assert robot in last["robot"] and last["time"] > 0
        assert arm.reset()["safety"]["mode"] == "nominal" and mode(arm) == "nominal"
    with serving(policy, enveloped(audit), silence_ms=60_000) as third:
        moved(arm, third)
        assert mode(arm) == "nominal"
        arm.close()


def test_a_reset_ends_the_stop_that_it_tells_of(server: Server) -> None:
    with client(server, robot="left") as robot:
        stop(robot)
        robot.close()
        while server._sessions:
            time.sleep(0.01)
        assert robot.reset()["safety"]["mode"] == "nominal" and mode(robot) == "nominal"


@pytest.mark.parametrize("said", [False, None, "no", 0])
def test_no_client_can_say_that_it_is_not_stopped(server: Server, said: Any) -> None:
    with client(server, robot="left") as first:
        stop(first)
    with client(server, robot="left") as second:
        assert mode(second, stopped=said, hold=[0.0] * 7) == "stopped"
        second.reset()


@pytest.mark.parametrize("robot", ["left", ""])
def test_what_the_gripper_was_told_outlives_the_server(policy: Policy, robot: str) -> None:
    with serving(policy, enveloped(), silence_ms=60_000) as first:
        arm = client(first, robot=robot)
        told = arm.infer(message())["hold"][6]
        assert abs(told) > 1e-3
    with serving(policy, enveloped(), silence_ms=60_000) as second:
        moved(arm, second)
        assert arm.infer({**message(), "prompt": ""})["hold"] == [0.0] * 6 + [pytest.approx(told)]
        arm.close()


@pytest.mark.parametrize(
    ("said", "gripper"),
    [
        ([9.0] * 6 + [0.25], 0.25),
        (np.full(7, 0.25, np.float32), 0.25),
        ([0.0] * 6, 0.0),
        ([0.0] * 6 + [np.nan], 0.0),
        ([[0.25] * 7], 0.0),
        ([[0.25], [1, 2]], 0.0),
        ("closed", 0.0),
        (0.25, 0.0),
        ({"gripper": 0.25}, 0.0),
    ],
)
def test_of_what_a_client_was_told_only_the_gripper_counts(server: Server, said: Any, gripper: float) -> None:
    with client(server) as robot:
        held = robot.infer({**message(), "prompt": "", "hold": said})
        assert held["safety"]["mode"] == "hold" and held["hold"] == [0.0] * 6 + [gripper]
        assert not held["actions"][:, :6].any()
        assert robot.infer({**message(), "prompt": "", "hold": [0.0] * 6 + [0.5]})["hold"][6] == gripper, "too late"
        robot.reset()


def test_what_a_client_says_of_its_gripper_is_kept_within_the_limits() -> None:
    limits = LimitsConfig(low=(-0.1,) * 7, high=(0.1,) * 7)
    for said, gripper in ((0.05, 0.05), (0.25, 0.1), (-1e30, -0.1), (np.inf, 0.0)):
        envelope = Envelope(SPEC, SafetyConfig(limits=limits))
        envelope.told(np.full(7, said))
        assert envelope.still().tolist() == pytest.approx([0.0] * 6 + [gripper])


def test_a_server_that_knows_the_robot_knows_better(server: Server) -> None:
    with client(server, robot="left") as first:
        told = first.infer(message())["hold"][6]
    with client(server, robot="left") as second:
        assert second.infer({**message(), "prompt": "", "hold": [0.0] * 6 + [0.25]})["hold"][6] == pytest.approx(told)
        second.reset()


def test_a_robot_whose_camera_is_gone_comes_back(server: Server) -> None:
    """The envelope judges what is missing, as before the connection was lost, in the next episode too."""
    blinded = {key: value for key, value in message().items() if key != "observation/wrist_image"}
    with client(server, robot="left", late="hold") as robot:
        assert [robot.infer(seen)["safety"]["mode"] for seen in (message(), blinded)] == ["nominal", "degraded"]
        robot.close()
        while server._sessions:
            time.sleep(0.01)
        for _ in range(2):
            for _ in range(2):
                assert robot.infer(blinded)["safety"] == {"mode": "degraded", "reasons": ["images.wrist: missing"]}
            robot.reset()


def test_a_robot_without_a_state_holds_where_it_was_told_to_be_before_it_came_back() -> None:
    """As in mid-session; where it is measured again, it holds there. Who has no name may be another robot."""
    spec = replace(SPEC, actions=(*SPEC.state[:6], "gripper"), action_kind="absolute")
    settings = SafetyConfig(stale_after=600, stop_after=600)
    with serving(small_policy(spec=spec), lambda: Envelope(spec, settings), silence_ms=60_000) as server:
        for name in ("left", ""):
            with client(server, robot=name) as robot:
                robot.infer(message())
                told = robot.infer({**message(1), "observation/state": None})
                assert told["safety"]["reasons"] == ["state: missing", "the position is not known"]
            while server._sessions:
                time.sleep(0.01)
            with client(server, robot=name) as robot:
                if not name:
                    with pytest.raises(Refused, match="nothing sound was measured yet"):
                        robot.infer({**message(2), "observation/state": None})
                    continue
                for _ in range(2):
                    held = robot.infer({**message(2), "observation/state": None})
                    assert held["safety"] == told["safety"] and held["hold"] == told["hold"]
                    assert held["actions"].tolist() == [pytest.approx(told["hold"])] * 8
                there = robot.infer({**message(3), "observation/state": np.full(8, 0.25, np.float32)})
                assert there["safety"]["mode"] == "hold" and there["hold"][:6] == [0.25] * 6


def test_what_does_not_fit_is_refused_when_a_robot_comes_back_too(server: Server) -> None:
    with client(server, robot="left") as robot:
        assert mode(robot) == "nominal"
    with client(server, robot="left") as robot, pytest.raises(Refused, match=r"camera 'front': .* has another aspect"):
        robot.infer({**message(), "observation/image": np.zeros((48, 64, 3), np.uint8)})
    with client(server, robot="right") as robot, pytest.raises(Refused) as refused:
        robot.infer({"prompt": "pick up the red ball"})
    assert str(refused.value).startswith("this observation has 'prompt'; missing: "), "heard is the protocol's"


def test_a_robot_may_come_back_with_other_keys(server: Server) -> None:
    with client(server, robot="left") as robot:
        assert mode(robot) == "nominal"
    seen = message()
    renamed = {"front": seen["observation/image"], "wrist": seen["observation/wrist_image"]}
    with client(server, robot="left") as robot:
        for _ in range(2):
            reply = robot.infer({**renamed, "state": seen["observation/state"], "prompt": seen["prompt"]})
            assert reply["safety"]["mode"] == "nominal"


@pytest.mark.parametrize("robot", ["left", ""])
def test_a_hold_hides_from_nobody_that_its_names_do_not_fit(server: Server, robot: str) -> None:
    """Who comes with other names than the one that was stopped is told what differs; the rest stays as it is."""
    with client(server, robot=robot) as first:
        stop(first)
    seen = message()
    misnamed = {"front": seen["observation/image"], "left_hand": seen["observation/wrist_image"]}
    with client(server, robot=robot) as other, pytest.raises(Refused, match=r"missing: 'wrist' \(camera 'wrist'\)"):
        other.infer({**misnamed, "state": seen["observation/state"], "prompt": seen["prompt"]})
    with client(server, robot=robot) as again:
        assert mode(again, **BLIND) == "stopped"


def test_a_lost_connection_makes_room_for_its_robot(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a computer without power: nothing closes the connection, and nothing answers its pings."""
    monkeypatch.setattr(session, "PONG_S", 0.2)
    monkeypatch.setattr(Link, "OPENING", Link.OPENING.replace(b"GET /", b"GET /?robot=left"))
    lost = Link(server.port).open()
    with client(server, robot="left", wait=3) as robot:
        assert mode(robot) == "nominal"
        with pytest.raises(ConnectionError, match="try again where that connection is lost"):
            client(server, robot="left", wait=0.5)
        assert mode(robot) == "nominal", "who answers stays"
    lost.close()


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
    with robots.connected("left", "") as robot:
        assert (first := robot.envelope) is not None and first.judge(observation, 0.0).mode is Mode.NOMINAL
        assert first.judge(replace(observation, state=None), 0.1).mode is Mode.DEGRADED
    with robots.connected("left", "") as robot:
        second = robot.envelope
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
    with Client(f"ws://127.0.0.1:{server.port}/?robot=left%20arm", timeout=20) as robot:
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
    with robots.connected("arm", "") as robot:
        assert (envelope := robot.envelope) is not None and envelope.judge(blind, 0.0).mode is Mode.STOPPED
    for number in range(KEPT + 1):
        with robots.connected(f"robot {number}", ""):
            pass
    with robots.connected("arm", "") as robot:
        assert (envelope := robot.envelope) is not None and envelope.mode is Mode.STOPPED


def test_the_oldest_envelope_is_dropped_first() -> None:
    robots, blind = Robots(lambda: Envelope(SPEC, SafetyConfig(stop_after=1))), Observation({}, None, [""])
    for number in range(KEPT + 1):
        with robots.connected(f"robot {number}", "") as robot:
            assert (envelope := robot.envelope) is not None and envelope.judge(blind, 0.0).mode is Mode.STOPPED
    found = []
    for number in (1, KEPT, 0):
        with robots.connected(f"robot {number}", "") as robot:
            found.append((envelope := robot.envelope) and envelope.mode)
    assert found == [Mode.STOPPED, Mode.STOPPED, Mode.NOMINAL]
