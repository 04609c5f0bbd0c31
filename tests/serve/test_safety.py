"""The safety envelope behind the socket: each robot has its own, and every reply tells its state."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from messages import message
from plait.memory import RecurrentConfig
from plait.policy import Policy
from plait.safety.bounds import LimitsConfig
from plait.safety.calibration import Calibration
from plait.safety.envelope import Envelope, SafetyConfig
from plait.serve.client import Client
from plait.serve.server import ServeConfig, Server
from policies import SPEC, random_observation, small_policy
from serving import client, expected, serving


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


def enveloped(policy: Policy, **settings: Any) -> Any:
    config = SafetyConfig(**settings)
    return lambda: Envelope(SPEC, config, Calibration.of(policy, {"train": {"modality_dropout": 0.2}}))


@pytest.fixture(scope="module")
def server(policy: Policy) -> Iterator[Server]:
    with serving(policy, enveloped(policy, stop_after=4)) as server:
        yield server


def modes(robot: Client, count: int, **changes: Any) -> list[str]:
    return [robot.infer({**message(seed), **changes})["safety"]["mode"] for seed in range(count)]


BLACK = np.zeros((32, 32, 3), np.uint8)


def test_clean_observations_get_the_bare_policys_answer(server: Server, policy: Policy) -> None:
    with client(server) as robot:
        for seed in range(3):
            reply = robot.infer(message(seed))
            np.testing.assert_allclose(reply["actions"], expected(policy, message(seed)), rtol=1e-4, atol=1e-5)
            assert reply["safety"] == {"mode": "nominal", "reasons": []}
            assert reply["hold"] == [0.0] * 6 + [reply["actions"][3, 6]]


def test_a_black_camera_degrades_that_robot_and_no_other(server: Server) -> None:
    with client(server) as robot, client(server) as other:
        assert modes(robot, 1) == ["nominal"]
        reply = robot.infer({**message(1), "observation/image": BLACK})
        assert reply["safety"]["mode"] == "degraded"
        assert reply["safety"]["reasons"][0].startswith("images.front: black")
        assert reply["actions"].any()
        assert modes(other, 2) == ["nominal"] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"observation/image": BLACK, "observation/wrist_image": BLACK},
        {"observation/image": BLACK[:16], "observation/wrist_image": BLACK.astype(np.float32)},
        {"observation/image": "gone", "observation/wrist_image": [1, 2]},
        {"prompt": ""},
        {"prompt": "go " * 17},
    ],
)
def test_without_sight_or_words_it_holds_then_stops_until_it_is_reset(
    server: Server, policy: Policy, changes: dict[str, Any]
) -> None:
    with client(server) as robot:
        before = robot.infer(message())["actions"]
        reply = robot.infer({**message(1), **changes})
        assert reply["safety"]["mode"] == "hold" and reply["safety"]["reasons"]
        np.testing.assert_array_equal(reply["actions"], np.tile([*[0.0] * 6, before[3, 6]], (8, 1)).astype(np.float32))
        assert modes(robot, 5, **changes)[-2:] == ["stopped", "stopped"]
        stopped = robot.infer(message())
        assert stopped["safety"]["mode"] == "stopped" and stopped["policy_timing"]["infer_ms"] == 0
        assert robot.reset()["safety"] == {"mode": "nominal", "reasons": []}
        assert modes(robot, 1) == ["nominal"]


@pytest.mark.parametrize("state", [np.full(8, np.nan), np.zeros(7), "none", None])
def test_a_broken_state_reaches_no_policy(server: Server, state: Any) -> None:
    with client(server) as robot:
        assert modes(robot, 1) == ["nominal"]
        reply = robot.infer({**message(1), "observation/state": state})
        assert reply["safety"]["mode"] == "degraded" and reply["safety"]["reasons"][0].startswith("state: ")


def test_a_stale_observation_is_late(server: Server) -> None:
    with client(server) as robot:
        assert modes(robot, 1) == ["nominal"]
        reply = robot.infer({**message(1), "age_ms": {"images.wrist": 900.0, "images.front": 50}})
        assert reply["safety"]["reasons"] == ["images.wrist: late, 0.900 s old"]


def test_actions_are_limited(policy: Policy) -> None:
    small = LimitsConfig(low=(-0.01,) * 7, high=(0.01,) * 7)
    with serving(policy, enveloped(policy, limits=small)) as server, client(server) as robot:
        actions = robot.infer(message())["actions"]
        np.testing.assert_allclose(actions, expected(policy, message()).clip(-0.01, 0.01), atol=1e-6)


def test_what_is_not_finite_is_held(policy: Policy) -> None:
    broken = small_policy()
    broken.normalise_action.mean[0] = np.nan
    with serving(broken, enveloped(policy)) as server, client(server) as robot:
        reply = robot.infer(message())
        assert not reply["actions"][:, :6].any()
        assert reply["safety"] == {"mode": "hold", "reasons": ["the actions are not finite"]}


def test_a_silent_robot_holds(policy: Policy) -> None:
    with serving(policy, enveloped(policy), silence_ms=200) as server, client(server) as robot:
        assert modes(robot, 1) == ["nominal"]
        time.sleep(0.7)
        assert server.metrics.faults["silent"] == 1
        assert server.metrics.modes["hold"] > 0.1
        reply = robot.infer(message(1))
        assert reply["safety"]["mode"] == "hold"
        assert robot.reset()["safety"]["mode"] == "nominal"


def test_who_executes_whole_chunks_is_not_silent(policy: Policy) -> None:
    with serving(policy, enveloped(policy)) as server:
        assert server.config.silence_ms == 1800, "at 10 Hz, the 8 steps of a chunk and 10 more"


def test_silence_begins_after_silence_ms_whatever_the_envelope_was_made_with(policy: Policy) -> None:
    with serving(policy, enveloped(policy, silent_after=1), silence_ms=60_000) as server, client(server) as robot:
        assert modes(robot, 1) == ["nominal"]
        time.sleep(0.4)
        assert modes(robot, 1) == ["nominal"]
        assert server.metrics.faults["silent"] == 0


def test_a_reply_that_is_held_because_it_is_late_says_so() -> None:
    slow = small_policy(execute=1)
    with serving(slow, enveloped(slow, stale_after=1), silence_ms=60_000) as server, client(server) as robot:
        step = slow.step

        def late(*arguments: Any) -> Any:
            time.sleep(0.3)
            return step(*arguments)

        slow.step = late  # type: ignore[method-assign]
        reply = robot.infer(message())
        assert not reply["actions"][:, :6].any()
        assert reply["safety"]["mode"] == "hold"
        assert reply["safety"]["reasons"] == ["the policy has not answered for 0.1 s"]
        slow.step = step
        time.sleep(0.3)  # it has only one thread
        assert robot.infer(message(1))["safety"] == {"mode": "nominal", "reasons": []}, "the next one is not late"


@pytest.mark.parametrize(
    ("horizon", "rate", "settings", "valid_ms"),
    [
        (8, 10.0, {}, 800),
        (8, 20.0, {}, 400),
        (8, 10.0, {"stale_after": 2}, 200),
        (16, 10.0, {}, 1000),  # ``stale_after``
        (16, 10.0, {"stale_after": 600}, 1600),
        (8, None, {}, 800),  # the envelope goes by 10 steps a second
    ],
)
def test_a_chunk_is_valid_until_the_envelope_would_hold_it_back(
    horizon: int, rate: float | None, settings: dict[str, int], valid_ms: float
) -> None:
    spec = replace(SPEC, rate=rate)
    policy = small_policy(spec=spec, action_horizon=horizon, execute=2)
    with serving(policy, lambda: Envelope(spec, SafetyConfig(**settings))) as server, client(server) as robot:
        assert robot.infer(message())["valid_until_ms"] == pytest.approx(valid_ms)


def test_a_policy_that_executes_longer_than_a_chunk_is_fresh_is_refused() -> None:
    policy = small_policy(execute=4)
    with pytest.raises(ValueError, match=r"stale_after: no chunk is executed 3 steps .* executes 4 .* give 4 or more"):
        Server(policy, ServeConfig(port=0), enveloped(policy, stale_after=3))


def test_without_a_rate_and_an_envelope_nobody_knows_when_a_chunk_is_over() -> None:
    with serving(small_policy(spec=replace(SPEC, rate=None))) as server, client(server) as robot:
        assert robot.infer(message())["valid_until_ms"] is None


def test_the_envelope_goes_on_from_what_the_robot_has_executed(policy: Policy) -> None:
    """The acceleration limit of a chunk begins at the last step that was run, not at the end of the chunk before."""
    limits = LimitsConfig(max_acceleration=1.0, step=(1.0, 1.0, 1.0))  # 0.01 per step more in each step
    with serving(policy, enveloped(policy, limits=limits)) as server, client(server) as robot:
        executed = np.concatenate([robot.infer(message(seed))["actions"][:4, :3] for seed in range(6)])
    growth = np.diff(np.abs(executed), axis=0)
    assert np.abs(executed).max() > 0.02 and growth.max() <= 0.01 + 1e-6


JOINTS = replace(SPEC, actions=(*SPEC.state[:6], "gripper"), action_kind="absolute")


def unheard(robot: Client, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask, and give up before the answer is there."""
    with monkeypatch.context() as patched:
        patched.setattr(robot, "timeout", 0.05)
        held = robot.infer(sent)
    assert held["late"]


def test_a_chunk_that_came_too_late_counts_neither_for_the_gripper_nor_for_the_place(monkeypatch: Any) -> None:
    """The policy opens the gripper and moves on in an answer that the robot has dropped; then the state is missing."""
    slow, plans, at = small_policy(spec=JOINTS), iter([0.1, 0.9, 0.9]), np.full(8, 0.1, np.float32)
    calibration = Calibration.of(slow, {"train": {"modality_dropout": 0.2}})
    with serving(slow, lambda: Envelope(JOINTS, calibration=calibration)) as server:
        step = slow.step

        def planned(*arguments: Any) -> Any:
            chunk, memory = step(*arguments)
            number = next(plans)
            time.sleep(0.2 if number == 0.9 else 0.0)
            return chunk * 0 + number, memory

        slow.step = planned  # type: ignore[method-assign]
        with client(server, late="hold") as robot:
            assert robot.infer({**message(), "observation/state": at})["hold"] == pytest.approx([0.1] * 7)
            unheard(robot, {**message(1), "observation/state": at}, monkeypatch)
            held = robot.infer({**message(2), "observation/state": None})
    assert held["safety"]["mode"] == "hold"
    np.testing.assert_allclose(held["actions"], np.full((8, 7), 0.1), atol=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 4, None, 8, 99])
def test_a_client_without_an_answer_holds_where_the_steps_that_it_executed_have_led(steps: int | None) -> None:
    """The policy moves on by 0.1 in each step, and is then too late."""
    slow, over, at = small_policy(spec=JOINTS), threading.Event(), np.zeros(8, np.float32)
    calibration = Calibration.of(slow, {"train": {"modality_dropout": 0.2}})
    with serving(slow, lambda: Envelope(JOINTS, calibration=calibration)) as server:
        step, plans = slow.step, iter([0.0, 0.1])

        def planned(*arguments: Any) -> Any:
            chunk, memory = step(*arguments)
            if (first := next(plans, None)) is None:
                over.wait(10)
            return chunk * 0 + (first or 0.0) + 0.1 * torch.arange(8.0)[None, :, None], memory

        slow.step = planned  # type: ignore[method-assign]
        with client(server, late="hold") as robot:
            told = [robot.infer({**message(seed), "observation/state": at})["actions"] for seed in range(2)]
            robot.timeout = 0.1
            said = {} if steps is None else {"executed": steps}
            for _ in range(2):  # and stays there
                held = robot.infer({**message(2), "observation/state": at, **said})
                assert held["late"]
                count = 4 if steps is None else min(steps, 8)
                there = told[1][count - 1] if count else told[0][3]
                np.testing.assert_allclose(held["actions"], there[None], atol=1e-6)
            over.set()


def test_of_a_chunk_that_was_left_early_only_the_executed_steps_count(policy: Policy) -> None:
    gripper = expected(policy, message())[:, 6]
    with serving(policy, enveloped(policy)) as server:
        for steps, told in ((1, gripper[0]), (0, 0), (-3, 0), (True, gripper[3]), ("1", gripper[3]), (99, gripper[7])):
            with client(server) as robot:
                robot.infer(message())
                held = robot.infer({**message(1), "prompt": "", "executed": steps})["actions"]
                assert held[0, 6] == pytest.approx(told, abs=1e-5)
                robot.reset()  # what holds would be kept for the next one


def test_a_chunk_is_not_executed_beyond_its_end(policy: Policy) -> None:
    """Four steps at 10 Hz are over after 400 ms, though ``stale_after`` would allow for 1 s."""
    envelope = enveloped(policy)()
    envelope.judge(random_observation(1), 0.0)
    chunk = np.full((4, 7), 0.01, np.float32)
    assert envelope.limit(chunk, 0.4, 0.4).any()
    held = envelope.limit(chunk, 0.41, 0.41)
    assert not held[:, :6].any() and envelope.counts["stale"] == 4


def test_an_instruction_that_fails_is_no_new_one() -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3), action_horizon=4, execute=4)
    with serving(policy, enveloped(policy)) as server, client(server) as robot:
        begun, step = [], policy.step

        def noted(inputs: Any, memory: Any, reset: Any) -> Any:
            begun.extend(reset.tolist())
            return step(inputs, memory, reset)

        policy.step = noted
        for words in ("pick up the ball", "", "pick up the ball", "push the cube"):
            robot.infer({**message(), "prompt": words})
    assert begun == [True, False, False, True]
