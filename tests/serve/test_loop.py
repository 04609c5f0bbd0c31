"""The control loop: a fixed rate, chunks that are predicted meanwhile and used at the steps they are about."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from messages import message
from plait import checkpoint, envs
from plait.control import Controller
from plait.memory import RecurrentConfig
from plait.safety.calibration import Calibration, Score, pattern
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.modes import Mode
from plait.serve.batching import Answer, Question
from plait.serve.loop import ControlLoop, Simulated, _Plan
from plait.types import Observation
from policies import SPEC, small_policy


class Counting:
    """A robot whose state is the number of its actions, which it keeps."""

    def __init__(self) -> None:
        self.done: list[np.ndarray] = []
        self.times: list[float] = []

    def observe(self) -> dict[str, Any]:
        return {**message(len(self.done)), "observation/state": np.full(8, len(self.done), np.float32)}

    def act(self, action: np.ndarray) -> None:
        self.done.append(action)
        self.times.append(time.monotonic())


def slow(seconds: Callable[[int], float]) -> Callable[[list[Question]], list[Answer]]:
    """An engine whose chunk tells the step that was seen, and the place in the chunk: step + place / 100."""

    def answer(questions: list[Question]) -> list[Answer]:
        step = int(questions[0].observation.state[0, 0])
        time.sleep(seconds(step))
        chunk = step + np.tile(np.arange(8, dtype=np.float32)[:, None] / 100, (1, 7))
        return [Answer(chunk, np.zeros(4, np.float32), None, 1e3 * seconds(step))]

    return answer


def looped(seconds: Callable[[int], float], **settings: Any) -> tuple[ControlLoop, Counting]:
    robot = Counting()
    loop = ControlLoop(small_policy(), robot, **dict[str, Any]({"rate": 20.0, "blend": 0, **settings}))
    loop.engine = slow(seconds)  # type: ignore[assignment]
    return loop, robot


def test_each_action_is_the_one_that_was_foreseen_for_its_step() -> None:
    loop, robot = looped(lambda step: 0.08 if step else 0.0)  # a bit less than two steps
    report = loop.run(ticks=20)
    done = np.array(robot.done)[:-1, 0]
    step = np.floor(done + 1e-4)
    np.testing.assert_allclose(100 * (done - step) + step, np.arange(20), atol=1e-3)
    assert set(np.diff(np.unique(step))) == {4}
    assert (report.ticks, report.starved) == (20, 0)
    assert 2 <= report.delay <= 4, "a busy machine may take longer"
    assert report.modes == {"nominal": 20}


def test_the_rate_is_kept_while_predictions_take_longer_than_a_step() -> None:
    loop, robot = looped(lambda step: 0.08)
    report = loop.run(ticks=20)
    assert 0.9 < (robot.times[-1] - robot.times[0]) / (19 / 20) < 1.5
    assert report.late_ms["p50"] < 50 and report.infer_ms["p50"] == 80


def test_where_no_chunk_is_ready_it_holds() -> None:
    loop, robot = looped(lambda step: 0.5 if step else 0.0)  # ten steps
    report = loop.run(ticks=12)
    assert report.starved >= 2
    held = np.array(robot.done)[8 : 8 + report.starved]
    assert not held[:, :6].any() and (held[:, 6] == robot.done[7][6]).all(), "no motion, and the gripper kept"


def test_the_seam_is_blended() -> None:
    plan = _Plan()
    plan.take(np.zeros((8, 1), np.float32), 0, 0.0, 0, blend=3)
    plan.take(np.full((8, 1), 4.0, np.float32), 4, 0.0, 6, blend=3)
    assert [float(plan.at(tick)[0]) for tick in (6, 7, 8, 11)] == [1.0, 2.0, 4.0, 4.0]  # type: ignore[index]
    assert plan.at(12) is None and plan.at(3) is None


def test_a_memory_sees_every_chunks_moment_once() -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3))
    controller, wanted = Controller(policy), []
    for step in (0, 4, 8):
        images = message(step)
        observation = Observation(
            {"front": images["observation/image"][None], "wrist": images["observation/wrist_image"][None]},
            np.full((1, 8), step, np.float32),
            [images["prompt"]],
        )
        wanted.append(controller.plan(observation)[0, 3])
    robot = Counting()
    ControlLoop(policy, robot, rate=10, blend=0).run(ticks=12)
    np.testing.assert_allclose([robot.done[step + 3] for step in (0, 4, 8)], wanted, rtol=1e-4, atol=1e-5)


def test_a_black_camera_is_seen_at_that_step() -> None:
    class Dark(Counting):
        def observe(self) -> dict[str, Any]:
            told = super().observe()
            names = [name for name in told if "image" in name and len(self.done) >= 3]
            return {**told, **{name: np.zeros_like(told[name]) for name in names}}

    robot = Dark()
    report = ControlLoop(small_policy(), robot, rate=20).run(ticks=6)
    assert report.modes == {"nominal": 3, "hold": 3}
    assert not np.array(robot.done)[3:, :6].any() and np.array(robot.done)[:3, :6].any()


def test_a_policy_that_was_trained_to_do_without_goes_on(tmp_path: Path) -> None:
    class Dark(Counting):
        def observe(self) -> dict[str, Any]:
            told = super().observe()
            return {**told, "observation/image": np.zeros_like(told["observation/image"])} if self.done else told

    policy = small_policy()
    for dropout, mode in ((0.2, "degraded"), (0.0, "hold")):
        saved = checkpoint.save(policy, tmp_path / mode, {"train": {"modality_dropout": dropout}})
        report = ControlLoop(policy, Dark(), rate=50, calibration=Calibration.find(saved, policy)).run(ticks=3)
        assert report.modes == {"nominal": 1, mode: 2}


def is_hold(action: np.ndarray, gripper: float) -> bool:
    return not action[:6].any() and action[6] == gripper


def test_whatever_ends_a_run_the_robot_is_told_to_hold() -> None:
    class Ending(Counting):
        error: BaseException | None = None

        def observe(self) -> dict[str, Any]:
            if self.error is not None and len(self.done) == 3:
                raise self.error
            return super().observe()

    for error in (None, OSError("no camera"), KeyboardInterrupt()):
        robot = Ending()
        robot.error = error
        loop = ControlLoop(small_policy(), robot, rate=50)
        if error is None:
            loop.run(ticks=3)
        else:
            with pytest.raises(type(error)):
                loop.run(ticks=3 if error is None else 9)
        assert len(robot.done) == 4 and is_hold(robot.done[3], robot.done[2][6])
        assert not is_hold(robot.done[2], robot.done[2][6])


def test_a_robot_that_does_not_answer_is_told_to_hold_meanwhile() -> None:
    held_after: list[int] = []

    class Blocked(Counting):
        def observe(self) -> dict[str, Any]:
            if len(self.done) == 3:
                until = time.monotonic() + 10
                while len(self.done) == 3 and time.monotonic() < until:  # what the watchdog does ends it
                    time.sleep(0.01)
                held_after.append(len(self.done))
            return super().observe()

    robot = Blocked()
    report = ControlLoop(small_policy(), robot, rate=50).run(ticks=5)
    assert report.stalls == 1 and report.ticks == 5
    assert held_after == [4] and is_hold(robot.done[3], robot.done[2][6])


def test_the_first_action_is_watched_too() -> None:
    class Blocked(Counting):
        def act(self, action: np.ndarray) -> None:
            super().act(action)
            until = time.monotonic() + 10
            while len(self.done) == 1 and time.monotonic() < until:  # what the watchdog does ends it
                time.sleep(0.01)

    robot = Blocked()
    report = ControlLoop(small_policy(), robot, rate=50).run(ticks=3)
    assert report.stalls == 1 and is_hold(robot.done[1], robot.done[0][6])


def test_a_signal_that_ends_the_process_ends_the_run_with_a_hold() -> None:
    class Terminated(Counting):
        def observe(self) -> dict[str, Any]:
            if len(self.done) == 3:
                signal.raise_signal(signal.SIGTERM)
            return super().observe()

    def handler(number: int, frame: Any) -> None:
        told.append(number)

    robot, told = Terminated(), list[int]()
    loop, before = ControlLoop(small_policy(), robot, rate=50), signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, handler)
        assert loop.run(ticks=4).ticks == 4 and told == [signal.SIGTERM], "the caller's own stays"
        robot.done.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(loop.run, 2).result(30).ticks == 2
        robot.done.clear()
        with pytest.raises(KeyboardInterrupt):
            loop.run(ticks=9)
        assert len(robot.done) == 4 and is_hold(robot.done[3], robot.done[2][6])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_hold_for_strange_features_ends_when_they_are_usual_again() -> None:
    usual = Score(np.zeros(4, np.float32), np.eye(4, dtype=np.float32), threshold=1.0)
    calibration = Calibration(scores={pattern(SPEC.modalities): usual})
    loop, _ = looped(lambda step: 0.0, execute=1, rate=50.0, calibration=calibration)
    answer = loop.engine

    def strange(questions: list[Question]) -> list[Any]:
        step = int(questions[0].observation.state[0, 0])  # type: ignore[index]
        return [replace(each, features=np.full(4, 9.0 * (3 <= step < 12))) for each in answer(questions)]  # type: ignore[type-var]

    loop.engine = strange  # type: ignore[assignment]
    report = loop.run(ticks=40)
    assert report.modes["hold"] >= 5 and loop.envelope.mode is Mode.NOMINAL


def test_what_was_planned_while_it_stood_is_not_done_later() -> None:
    class Dark(Counting):
        def observe(self) -> dict[str, Any]:
            told = super().observe()
            dark = {name: np.zeros_like(told[name]) for name in told if "image" in name}
            return {**told, **dark} if 4 <= len(self.done) <= 8 else told

    robot, soon = Dark(), SafetyConfig(trust_after=1, recover_after=1)
    calibration = Calibration(droppable=True)
    spec = replace(SPEC, rate=20.0)
    loop = ControlLoop(small_policy(), robot, rate=20, blend=0, envelope=Envelope(spec, soon, calibration))
    loop.engine = slow(lambda step: 0.0)  # type: ignore[assignment]
    report = loop.run(ticks=16)
    moved = np.array(robot.done)[:16, :6].any(axis=1)
    assert report.modes["nominal"] >= 7 and moved[1:4].all() and moved[12:].all()
    assert not moved[4:10].any(), "step 8 saw nothing; the next look is at step 9, and its answer is there at step 10"


def test_an_environment_is_a_robot() -> None:
    env = envs.make("tabletop")
    policy = small_policy(spec=env.unwrapped.embodiment)  # type: ignore[attr-defined]
    robot = Simulated(env, seed=2**30)
    loop = ControlLoop(policy, robot, rate=50)
    reports, told = [], []
    for _ in range(2):
        reports.append(loop.run(ticks=5))
        told.append(robot.observe())
    assert [(report.ticks, report.rate) for report in reports] == [(5, 50), (5, 50)] and not robot.success
    assert told[0]["task"] and (told[0]["observation.state"] != told[1]["observation.state"]).any()
    env.close()


def test_bfloat16_is_close_to_float32() -> None:
    done = []
    for precision in ("float32", "bfloat16"):
        robot = Counting()
        ControlLoop(small_policy(), robot, rate=20, precision=precision).run(ticks=3)
        done.append(np.array(robot.done[:3]))
    np.testing.assert_allclose(*done, atol=0.03)
    assert not np.allclose(*done, rtol=1e-5, atol=1e-6), "it was multiplied in another format"


def test_it_is_compiled_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(ValueError, match=r"compile: Invalid.* found"):
        ControlLoop(small_policy(), Counting(), compile=True)


def test_what_cannot_be_is_refused() -> None:
    policy = small_policy()
    for settings, sentence in (
        ({"execute": 9}, "execute: 9; this policy takes at most 8"),
        ({"rate": -1.0}, "rate: -1.0 is too small"),
        ({"blend": -1}, "blend: -1 is too small"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ControlLoop(policy, Counting(), **settings)
    with pytest.raises(ValueError, match="execute: 2; this policy takes 4, as it has learned"):
        ControlLoop(small_policy(memory=RecurrentConfig(steps=3)), Counting(), execute=2)
    with pytest.raises(ValueError, match="envelope: made for 10 steps per second, the loop has 50"):
        ControlLoop(policy, Counting(), rate=50, envelope=Envelope(policy.spec))
    with pytest.raises(ValueError, match="rate: the policy does not know it"):
        ControlLoop(small_policy(spec=replace(SPEC, rate=None)), Counting())

    class Blind(Counting):
        def observe(self) -> dict[str, Any]:
            return {"observation/state": np.zeros(8)}

    with pytest.raises(ValueError, match=r"missing: 'observation/image' \(camera 'front'\)"):
        ControlLoop(policy, Blind()).run(ticks=1)
