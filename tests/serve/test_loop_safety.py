"""What the control loop does not do: go on with an old plan, look at old pictures, starve unseen, hang. By a clock that
only sleep moves."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from messages import message
from plait.memory import RecurrentConfig
from plait.safety.audit import Audit
from plait.safety.calibration import Calibration, Score, pattern
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.modes import Mode
from plait.serve import loop as module
from plait.serve.batching import Answer, Hung, Question
from plait.serve.loop import ControlLoop
from plait.serve.watchdog import Watchdog
from policies import SPEC, small_policy

RATE = 20.0
WIDE = replace(SPEC, action_low=(-99.0,) * 7, action_high=(99.0,) * 7)
HORIZON = 16


class Clock:
    """Seconds that pass in ``sleep`` alone."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Later(Future[Any]):
    """A prediction that is there after some seconds of the clock."""

    def __init__(self, clock: Clock, seconds: float, value: Any) -> None:
        super().__init__()
        self.clock, self.ready = clock, clock.now + seconds
        self.set_result(value)

    def done(self) -> bool:
        return self.clock.now >= self.ready - 1e-9


class Raising:
    """Predictions of which some raise, as those of a thread do: when they are looked at, at the next step."""

    def __init__(self, thread: Any) -> None:
        self.thread = thread

    def submit(self, engine: Callable[[list[Question]], Any], questions: list[Question]) -> Future[Any]:
        try:
            found = engine(questions)
        except RuntimeError as error:
            later: Future[Any] = Future()
            later.set_exception(error)
            return later
        if isinstance(found[0], Exception):
            later = Future()
            later.set_result(found)
            return later
        return self.thread.submit(lambda _: found, questions)


class Unwatched(Watchdog):
    """Whose thread would go by real time."""

    def __enter__(self) -> None:
        pass


class Robot:
    """Its state is the number of its actions. ``change`` is what is different in its observation of a step."""

    def __init__(self, change: Callable[[int], dict[str, Any]] = lambda step: {}) -> None:
        self.done: list[np.ndarray] = []
        self.change = change

    def observe(self) -> dict[str, Any]:
        step = len(self.done)
        return {**message(step), "observation/state": np.full(8, step, np.float32), **self.change(step)}

    def act(self, action: np.ndarray) -> None:
        self.done.append(action)

    @property
    def planned(self) -> list[int | None]:
        """Of each action, but for the last hold, the step whose observation it came from; None: it stood still."""
        return [int(action[0]) - 1 if action[0] else None for action in self.done[:-1]]


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ControlLoop]:
    """A loop whose predictions, after the first, take ``steps`` steps; an action is 1 + step seen + place / 100."""

    def made(robot: Robot, steps: float, horizon: int = HORIZON, **settings: Any) -> ControlLoop:
        config = {name: settings.pop(name) for name in ("memory", "execute") if name in settings}
        policy = small_policy(spec=WIDE, action_horizon=horizon, **config)
        calibration = Calibration(droppable=True)
        loop = ControlLoop(policy, robot, rate=RATE, blend=0, **{"calibration": calibration, **settings})
        clock = Clock()

        def submit(engine: Callable[[list[Question]], Any], questions: list[Question]) -> Later:
            seconds = 0.0 if questions[0].reset else steps / RATE
            return Later(clock, seconds, [replace(each, infer_ms=1e3 * seconds) for each in engine(questions)])

        def engine(questions: list[Question]) -> list[Answer]:
            (question,) = questions
            step = len(robot.done)
            chunk = 1 + step + np.tile(np.arange(horizon, dtype=np.float32)[:, None] / 100, (1, 7))
            there = question.observation.present["images.wrist"][0]
            return [Answer(chunk, np.full(4, 0.0 if there else 9.0, np.float32), None, 0.0)]

        loop.engine, loop._thread = engine, SimpleNamespace(submit=submit)  # type: ignore[assignment]
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "Watchdog", Unwatched)
        return loop

    return made


def black(*cameras: str) -> dict[str, Any]:
    return {name: np.zeros((32, 32, 3), np.uint8) for name in cameras}


BOTH = black("observation/image", "observation/wrist_image")


@pytest.mark.parametrize(("execute", "steps"), [(8, 1.0), (8, 4.4), (4, 4.4), (4, 5.6), (16, 4.4)])
def test_after_a_hold_nothing_is_done_that_was_planned_before(driven: Any, execute: int, steps: float) -> None:
    robot = Robot(lambda step: BOTH if step == 2 else {})
    loop = driven(robot, steps, execute=execute)
    report, planned = loop.run(ticks=30), robot.planned
    assert planned[:2] == [0, 0] and planned[2:11] == [None] * 9
    later = [step for step in planned[11:] if step is not None]
    assert later and min(later) >= 11, "asked when it may move again"
    assert planned[11:].index(later[0]) <= 2 * np.ceil(steps), (
        "at most the answer to a question of the hold comes first"
    )
    assert report.starved == planned[11:].count(None)


def test_an_answer_that_was_on_its_way_when_it_held_is_not_used(driven: Any) -> None:
    soon = SafetyConfig(trust_after=1, recover_after=1, stale_after=HORIZON)
    envelope = Envelope(replace(WIDE, rate=RATE), soon, Calibration(droppable=True))
    robot = Robot(lambda step: BOTH if step == 5 else {})
    driven(robot, 2.4, execute=4, envelope=envelope).run(ticks=12)
    assert robot.planned == [0] * 5 + [None] * 5 + [7, 7], "asked at step 4, it comes at step 7"


def test_each_action_has_a_number_an_age_and_a_deadline(driven: Any) -> None:
    robot, stamps = Robot(lambda step: BOTH if step == 6 else {}), []
    loop, act = driven(robot, 2.0, execute=4), robot.act
    robot.act = lambda action: (stamps.append(loop.stamp), act(action))[1]  # type: ignore[method-assign]
    loop.run(ticks=12)
    assert robot.planned == [0] * 6 + [None] * 6
    assert [stamp.sequence for stamp in stamps] == [*range(1, 14)], "the last hold too"
    ages = [1e3 / RATE * age for age in (0, 1, 2, 3, 4, 5)]
    assert [stamp.age_ms for stamp in stamps[:6]] == pytest.approx(ages)
    assert [stamp.age_ms for stamp in stamps[6:12]] == [0.0] * 6, "a hold is computed from the newest observation"
    assert {stamp.valid_until_ms for stamp in stamps} == {1e3 * HORIZON / RATE}


def test_with_a_memory_moments_stay_equally_far_apart_after_a_hold(driven: Any) -> None:
    robot = Robot(lambda step: BOTH if step == 2 else {})
    driven(robot, 1.0, execute=4, memory=RecurrentConfig(steps=3)).run(ticks=24)
    assert {step for step in robot.planned if step is not None} == {0, 12, 16, 20}


def test_what_the_robot_says_is_old_is_late(driven: Any) -> None:
    ages = {"images.front": 60_000.0, "images.wrist": 60_000.0, "state": 60_000.0}
    robot = Robot(lambda step: {"age_ms": ages if step >= 4 else {}})
    report = driven(robot, 1.0).run(ticks=8)
    assert report.modes == {"nominal": 4, "hold": 4} and robot.planned[4:] == [None] * 4


def test_features_are_scored_by_what_was_present_when_they_were_asked_for(driven: Any) -> None:
    full, blind = SPEC.modalities, tuple(name for name in SPEC.modalities if name != "images.wrist")
    scores = {
        pattern(names): Score(np.full(4, mean, np.float32), np.eye(4, dtype=np.float32), 1.0)
        for names, mean in ((full, 0.0), (blind, 9.0))
    }
    robot = Robot(lambda step: black("observation/wrist_image") if step >= 5 else {})
    loop = driven(robot, 2.4, execute=4, calibration=Calibration(scores=scores, droppable=True))
    reasons: list[str] = []
    noticed: list[tuple[str, ...]] = []
    notice = loop.envelope.notice

    def note(features: np.ndarray, present: tuple[str, ...]) -> None:
        notice(features, present)
        noticed.append(present)
        reasons.extend(loop.envelope.reasons)

    loop.envelope.notice = note
    loop.run(ticks=14)
    assert noticed == [full, full, blind], "asked at the steps 0, 4, whose answer comes when the wrist is black, and 8"
    assert "images.wrist: black" in reasons and not [each for each in reasons if "distribution" in each]


def test_the_next_chunk_is_there_when_this_one_ends(driven: Any) -> None:
    robot = Robot()
    report = driven(robot, 1.4, horizon=8, execute=8).run(ticks=40)
    assert report.starved <= 2 and report.delay == 2, "but for the first, whose length is not known before"
    robot = Robot()
    report = driven(robot, 4.4, horizon=8, execute=4).run(ticks=40)
    assert report.starved <= 16, "8 - 5 of 5 steps are covered at best"
    assert report.modes == {"nominal": 40 - report.starved, "hold": report.starved}


def test_a_prediction_that_hangs_does_not_keep_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    robot, let_go = Robot(), threading.Event()
    loop = ControlLoop(small_policy(spec=WIDE), robot, rate=50, blend=0)

    def engine(questions: list[Question]) -> list[Answer]:
        if len(robot.done):
            let_go.wait(10)
        return [Answer(np.ones((8, 7), np.float32), np.zeros(4, np.float32), None, 0.0)]

    loop.engine = engine  # type: ignore[assignment]
    try:
        start = time.monotonic()
        report = loop.run(ticks=15)
        assert time.monotonic() - start < 3 and report.modes["hold"] == 7 and not robot.done[-1][:6].any()
        monkeypatch.setattr(module, "CLOSE_S", 0.1)
        with pytest.raises(Hung, match=r"the policy has not answered for 0\.2 s"):
            loop.run(ticks=15)
        assert time.monotonic() - start < 6 and not robot.done[-1][:6].any()
    finally:
        let_go.set()


def test_the_envelope_is_told_of_a_prediction_that_takes_too_long(driven: Any) -> None:
    robot = Robot()
    loop = driven(robot, 20.0, execute=4)
    reasons: list[tuple[str, ...]] = []
    act = robot.act
    robot.act = lambda action: (reasons.append(loop.envelope.reasons), act(action))[1]  # type: ignore[method-assign]
    loop.run(ticks=32)
    hung = [tick for tick, why in enumerate(reasons) if "the policy does not answer" in why]
    assert hung[0] in (20, 21) and hung[-1] == 24, "asked at step 4; when its 16 steps are over, until it answers"
    assert robot.planned[16:25] == [None] * 9


def test_after_a_stall_the_robot_stands_until_there_is_a_new_plan(driven: Any) -> None:
    robot = Robot()
    loop = driven(robot, 1.0)
    observe = robot.observe

    def stalling() -> dict[str, Any]:
        if len(robot.done) == 3:
            loop._stalled()  # as the watchdog's thread does meanwhile; it is one action
        return observe()

    robot.observe = stalling  # type: ignore[method-assign]
    loop.run(ticks=8)
    assert robot.planned == [0, 0, 0, None, None, 4, 4, 4, 4]


def test_how_late_actions_were_and_why_it_held_is_reported(driven: Any) -> None:
    slow = Robot(lambda step: {"prompt": ""} if step == 3 else {})
    loop = driven(slow, 1.0)
    act = slow.act
    slow.act = lambda action: (act(action), module.time.sleep(0.6))[0]  # type: ignore[method-assign]
    report = loop.run(ticks=5)
    assert report.late_ms["p50"] == report.late_ms["max"] == 600 and report.misses == 4
    assert report.rate == RATE and report.achieved == pytest.approx(1 / 0.6)
    assert report.reasons == ("instruction: failed a moment ago", "instruction is needed")
    assert driven(Robot(), 1.0).run(ticks=5).reasons == ()


def test_a_stop_stays_until_the_reset_where_the_robot_has_none(driven: Any) -> None:
    robot = Robot(lambda step: BOTH if 2 <= step < 62 else {})
    loop = driven(robot, 1.0)
    assert loop.run(ticks=60).modes == {"nominal": 2, "hold": 49, "stopped": 9}
    with pytest.raises(RuntimeError, match=r"stopped \(.*no camera is left.*loop\.envelope\.reset\(\)"):
        loop.run(ticks=20)
    assert len(robot.done) == 61 and loop.envelope.mode is Mode.STOPPED
    loop.envelope.reset()
    assert loop.run(ticks=1).modes == {"hold": 1}, "it is still dark"
    assert loop.run(ticks=5).modes == {"hold": 5}, "it is not trusted at once for having been away"

    robot.reset = robot.done.clear  # type: ignore[attr-defined]
    assert loop.run(ticks=60).modes["stopped"] == 9
    assert loop.run(ticks=2).modes == {"nominal": 2}, "an episode begins"


@pytest.mark.parametrize("hold_after", [1, 2])
def test_the_envelope_hears_of_a_robot_that_did_not_return(driven: Any, tmp_path: Path, hold_after: int) -> None:
    robot, file = Robot(), tmp_path / "audit.jsonl"
    config = SafetyConfig(stale_after=HORIZON, hold_after=hold_after)
    envelope = Envelope(replace(WIDE, rate=RATE), config, Calibration(droppable=True), Audit(file))
    loop = driven(robot, 1.0, envelope=envelope)
    observe = robot.observe

    def stalling() -> dict[str, Any]:
        if len(robot.done) == 3:
            module.time.sleep(2.0)
        return observe()

    robot.observe = stalling  # type: ignore[method-assign]
    report = loop.run(ticks=20)
    assert robot.planned[2:9] == [0] + [None] * 5 + [7], "the hold, and one step for the next prediction"
    assert report.modes == {"nominal": 11, "hold": 5, "degraded": 4} and report.starved == 1
    assert report.reasons == ("no observation for 2.050 s",)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    changes = [(line["from"], line["to"], line["reasons"]) for line in lines]
    assert changes[-3][1:] == ("hold", ["no observation for 2.050 s"])
    assert [to for _, to, _ in changes] == ["degraded"] * (hold_after - 1) + ["hold", "degraded", "nominal"]


def test_a_first_prediction_that_takes_long_is_no_silence(driven: Any) -> None:
    robot = Robot()
    loop = driven(robot, 1.0)
    engine = loop.engine

    def slow(questions: list[Question]) -> list[Answer]:
        module.time.sleep(0.0 if robot.done else 3.0)
        return engine(questions)

    loop.engine = slow
    report = loop.run(ticks=3)
    assert loop.envelope.mode is Mode.NOMINAL and report.reasons == ()


@pytest.mark.parametrize("whole", [True, False])
def test_a_prediction_that_fails_is_a_hold_until_one_succeeds(driven: Any, whole: bool) -> None:
    robot = Robot()
    loop = driven(robot, 1.0, execute=4)
    engine = loop.engine

    def failing(questions: list[Question]) -> list[Any]:
        if len(robot.done) not in (4, 5):
            return engine(questions)
        if whole:
            raise RuntimeError("CUDA error: device lost\na page about it")
        return [ValueError("no such word")]

    loop.engine, loop._thread = failing, Raising(loop._thread)
    report, sentence = loop.run(ticks=12), "CUDA error: device lost" if whole else "no such word"
    assert robot.planned[:9] == [0] * 5 + [None, None, 6, 6], "asked at 4 and 5, which fail, and at 6"
    assert report.modes == {"nominal": 10, "hold": 2} and report.starved == 2
    assert report.reasons == (f"the policy failed ({'RuntimeError' if whole else 'ValueError'}: {sentence})",)


def test_a_policy_that_goes_on_failing_is_a_hold_with_its_reason(driven: Any) -> None:
    robot = Robot()
    loop = driven(robot, 1.0, horizon=8)

    def failing(questions: list[Question]) -> list[Answer]:
        raise RuntimeError("device lost")

    loop.engine, loop._thread = failing, Raising(loop._thread)
    report = loop.run(ticks=80)
    assert report.modes["hold"] == 80 - report.modes["stopped"] and report.modes["stopped"] > 10
    assert robot.planned == [None] * 80 and loop.envelope.reasons == ("the policy failed (RuntimeError: device lost)",)


def test_a_first_observation_that_the_policy_refuses_ends_the_run(driven: Any) -> None:
    robot = Robot()
    loop = driven(robot, 1.0)
    loop.engine, loop._thread = lambda questions: [ValueError("state: 7 numbers")], Raising(loop._thread)
    with pytest.raises(ValueError, match="state: 7 numbers"):
        loop.run(ticks=5)
    assert len(robot.done) == 1 and not robot.done[0][:6].any()


@pytest.mark.parametrize("at", [0, 3])
def test_an_observation_that_is_no_mapping_is_named(driven: Any, at: int) -> None:
    robot = Robot()
    loop, observe = driven(robot, 1.0), robot.observe
    robot.observe = lambda: None if len(robot.done) == at else observe()  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(TypeError, match=r"^observe\(\) returned NoneType; expected a mapping of names to arrays$"):
        loop.run(ticks=5)
    assert len(robot.done) == (4 if at else 0) and (not at or not robot.done[-1][:6].any())
