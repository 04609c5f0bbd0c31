"""One robot's envelope: observations in, modes and reasons out, and which actions may leave."""

import json
import random
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from plait import envs
from plait.control import Controller
from plait.safety.audit import Audit
from plait.safety.bounds import LimitsConfig, Seen
from plait.safety.calibration import Calibration, Score, pattern
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.health import Known
from plait.safety.modes import Mode
from plait.types import Observation
from policies import SPEC, small_policy

TOLD = "pick up the red ball"
FORWARD = np.array([1, 0, 0, 0, 0, 0, 1.0])
RNG = np.random.default_rng(0)
TRAINED_SO = {"train": {"modality_dropout": 0.1}}
PAST = (
    9  # ticks without a fault after which nothing of it is left: the last of trust_after is the first of recover_after
)


def moment(tick: int = 0, told: str = TOLD, **changes: object) -> Observation:
    """A sound observation at a tick but for ``changes`` (``front``, ``wrist``, ``state``); None takes it away."""
    values = {camera: RNG.integers(0, 256, (1, 32, 32, 3), np.uint8) for camera in SPEC.cameras}
    values["state"] = np.full((1, 8), 0.001 * tick, np.float32)
    values |= changes
    state = values.pop("state")
    return Observation(values, state, [told])


def ranges(**more: object) -> Calibration:
    return Calibration(Known((-1.0,) * 8, (1.0,) * 8), Seen((-1.0,) * 7, (1.0,) * 7), **more)


def sound(robot: Envelope, ticks: int, start: int = 0) -> None:
    for tick in range(start, start + ticks):
        robot.judge(moment(tick), tick / 10)


def test_a_sound_robot_is_nominal_and_its_actions_leave_as_they_are():
    robot = Envelope(SPEC, calibration=ranges())
    judged = robot.judge(moment(), 0.0)
    assert (judged.mode, judged.reasons, robot.state) == (Mode.NOMINAL, (), {"mode": "nominal", "reasons": []})
    assert robot.limit(FORWARD, 0.0, 0.0).tolist() == FORWARD.tolist()
    assert all(flag.all() for flag in judged.observation.present.values())


BLACK = np.zeros((1, 32, 32, 3), np.uint8)
BROKEN = {
    "images.front": {"front": BLACK},
    "images.wrist": {"wrist": None},
    "state": {"state": np.full((1, 8), np.nan)},
}


@pytest.mark.parametrize("modality", BROKEN)
def test_what_failed_is_taken_away_at_once_and_used_again_only_after_a_while(modality):
    config = SafetyConfig(limits=LimitsConfig(degraded_speed=0.75))
    robot, policy = Envelope(SPEC, config, ranges()), small_policy()
    sound(robot, 3)
    judged = robot.judge(moment(3, **BROKEN[modality]), 0.3)
    assert judged.mode is Mode.DEGRADED
    assert judged.reasons[0].startswith(f"{modality}: ")
    assert {name for name, flag in judged.observation.present.items() if not flag[0]} == {modality}
    assert policy.predict(policy.prepare(judged.observation)).isfinite().all()
    assert robot.limit(FORWARD, 0.3, 0.0)[0] == pytest.approx(0.9, abs=1e-5), "three quarters of what is allowed"
    later = [robot.judge(moment(4 + i), 0.4 + i / 10) for i in range(PAST)]
    assert [bool(each.observation.present[modality][0]) for each in later[3:6]] == [False, True, True]
    assert [each.mode for each in later[-2:]] == [Mode.DEGRADED, Mode.NOMINAL]


def test_without_sight_it_stands_still_and_keeps_the_gripper():
    robot = Envelope(SPEC, calibration=ranges())
    sound(robot, 1)
    robot.limit(FORWARD, 0.0, 0.0)
    judged = robot.judge(moment(1, front=BLACK, wrist=None), 0.1)
    assert (judged.mode, judged.reasons[-1]) == (Mode.HOLD, "no camera is left")
    assert robot.limit(-FORWARD, 0.1, 0.0).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_without_words_it_holds():
    robot = Envelope(SPEC, calibration=ranges())
    judged = robot.judge(moment(told=""), 0.0)
    assert (judged.mode, judged.reasons) == (Mode.HOLD, ("instruction: empty", "instruction is needed"))


def test_a_policy_that_needs_everything_holds_when_anything_fails():
    robot = Envelope(SPEC, calibration=ranges(droppable=False))
    assert robot.judge(moment(wrist=BLACK), 0.0).mode is Mode.HOLD
    robot = Envelope(SPEC, SafetyConfig(required=("images.wrist",)), ranges())
    assert robot.judge(moment(wrist=BLACK), 0.0).mode is Mode.HOLD
    robot = Envelope(SPEC, calibration=Calibration.of(small_policy(), {}))
    assert robot.judge(moment(wrist=BLACK), 0.0).mode is Mode.HOLD, "nothing says that it was trained to do without"
    robot = Envelope(SPEC, SafetyConfig(cameras=2), ranges())
    assert robot.judge(moment(wrist=BLACK), 0.0).reasons[-1] == "1 cameras are left, 2 needed"


def test_a_box_needs_the_position():
    step = {"step": (0.01,) * 3}
    robot = Envelope(SPEC, SafetyConfig(limits=LimitsConfig(box_low=(-1.0,) * 3, **step)), ranges())
    assert robot.judge(moment(state=None), 0.0).reasons == ("state: missing", "the position is not known")
    assert robot.mode is Mode.HOLD


def test_an_unusual_place_is_kept_from_the_policy_and_is_a_place_all_the_same():
    """The hand is outside of what training saw, and outside of its box: it may come back."""
    limits = LimitsConfig(box_low=(-1.0,) * 3, box_high=(1.0,) * 3, step=(0.01,) * 3, degraded_speed=1.0)
    robot = Envelope(SPEC, SafetyConfig(limits=limits), ranges())
    judged = robot.judge(moment(state=np.full((1, 8), 1.5, np.float32)), 0.0)
    assert (judged.mode, judged.reasons) == (Mode.DEGRADED, ("state: x is 1.5; training saw -1 to 1",))
    assert not judged.observation.present["state"][0]
    assert robot.limit(-FORWARD, 0.0, 0.0)[0] == -1
    assert robot.limit(FORWARD, 0.0, 0.0)[0] == 0


def test_a_frozen_camera_stays_failed_while_the_robot_holds_because_of_it():
    """Both freeze while the hand moves; then it holds, so that nothing moves any more."""
    robot, frozen = Envelope(SPEC, SafetyConfig(stop_after=40), ranges()), moment()
    modes = []
    for tick in range(45):
        held = min(tick, 3)
        state = np.full((1, 8), 0.02 * held, np.float32)
        modes.append(robot.judge(Observation(frozen.images, state, [TOLD]), tick / 10).mode)
    assert modes[:3] == [Mode.NOMINAL, Mode.NOMINAL, Mode.HOLD]
    assert set(modes[3:-4]) == {Mode.HOLD} and modes[-1] is Mode.STOPPED


def drive(robot: Envelope, action: np.ndarray, moments: list[Observation]) -> list[tuple[Mode, np.ndarray]]:
    """The mode at each moment, and what left then."""
    found = []
    for tick, seen in enumerate(moments):
        mode = robot.judge(seen, tick / 10).mode
        found.append((mode, robot.limit(action, tick / 10, 0.0)))
    return found


@pytest.mark.parametrize("changes", [{}, {"state": None}], ids=["all of it", "without a state"])
def test_observations_that_never_change_while_the_robot_moves_are_as_good_as_none(changes: dict[str, None]):
    robot, same = Envelope(SPEC, calibration=ranges(droppable=True)), moment(**changes)
    found = drive(robot, FORWARD, [same] * 20)
    modes = [mode for mode, _ in found]
    silent = robot.config.silent_after
    assert Mode.HOLD not in modes[: silent + 1] and modes[silent + 1 :] == [Mode.HOLD] * (19 - silent)
    assert "pictures and state stay the same, bit for bit, while the robot is told to move" in robot.reasons
    assert not found[-1][1][:6].any()
    robot.judge(moment(1), 2.0)
    assert "pictures" not in " ".join(robot.reasons) and robot.mode is not Mode.NOMINAL, "no way back at once"
    sound(robot, PAST + 1, 21)
    assert robot.mode is Mode.NOMINAL


def test_a_robot_that_is_told_to_stand_still_may_see_the_same_for_long_and_slow_sensors_repeat_themselves():
    same, still = moment(), np.array([0, 0, 0, 0, 0, 0, 1.0])
    assert {mode for mode, _ in drive(Envelope(SPEC, calibration=ranges()), still, [same] * 40)} == {Mode.NOMINAL}
    slow = [seen for tick in range(5) for seen in [moment(tick)] * 8]
    assert {mode for mode, _ in drive(Envelope(SPEC, calibration=ranges()), FORWARD, slow)} == {Mode.NOMINAL}


def test_only_what_was_executed_moves_a_robot_blindly():
    robot, same, chunk = Envelope(SPEC, calibration=ranges()), moment(), np.tile(FORWARD, (4, 1))
    for tick in range(30):
        robot.executed(0)
        assert robot.judge(same, tick / 10).mode is Mode.NOMINAL
        robot.limit(chunk, tick / 10, 0.0, 2)


def test_a_silent_robot_holds_whether_or_not_a_watchdog_looks():
    robot = Envelope(SPEC, SafetyConfig(silent_after=3), ranges())
    assert robot.limit(FORWARD, 0.0, 0.0)[0] == 0, "nothing was seen yet"
    robot.silent(5.0)
    sound(robot, 1)
    assert robot.limit(FORWARD, 0.3, 0.2)[0] == 1
    assert robot.limit(FORWARD, 0.31, 0.2)[0] == 0
    robot.silent(0.3)
    assert robot.mode is Mode.NOMINAL
    robot.silent(0.4)
    assert (robot.mode, robot.reasons) == (Mode.HOLD, ("no observation for 0.400 s",))
    assert robot.counts == {"held": 1, "stale": 1, "limits": 0}


def test_a_robot_whose_policy_does_not_answer_holds_until_it_does():
    robot = Envelope(SPEC, SafetyConfig(silent_after=3, recover_after=1), ranges())
    sound(robot, 1)
    robot.unanswered(0.3, 0.3, 1)
    robot.unanswered(0.4, 0.4, 4)
    assert robot.mode is Mode.NOMINAL, "of four steps, the last could still be executed"
    robot.unanswered(0.4, 0.4, 3)
    assert (robot.mode, robot.reasons) == (Mode.HOLD, ("the policy does not answer",))
    sound(robot, 5, 4)
    assert robot.mode is Mode.HOLD, "whatever arrives meanwhile"
    robot.notice(np.zeros(4))
    sound(robot, 2, 9)
    assert robot.mode is Mode.NOMINAL


@pytest.mark.parametrize("age", [1.01, 1e9, float("nan"), -0.2])
def test_a_stale_action_is_never_executed(age):
    robot = Envelope(SPEC, calibration=ranges())
    sound(robot, 1)
    assert robot.limit(FORWARD, 0.0, 1.0)[0] == 1
    assert robot.limit(FORWARD, 0.0, age).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_of_a_chunk_only_what_is_executed_counts():
    robot = Envelope(SPEC, SafetyConfig(limits=LimitsConfig(step=(0.01,) * 3, max_acceleration=0.3)), ranges())
    sound(robot, 1)
    chunk = np.tile(FORWARD, (5, 1))
    steps = robot.limit(chunk, 0.0, 0.0, execute=2)[:, 0].tolist()
    assert steps == pytest.approx([0.3, 0.6, 0.9, 1, 1], abs=1e-6)
    assert robot.counts["acceleration"] == 2
    assert robot.limit(chunk, 0.0, 0.0, execute=2)[0, 0] == pytest.approx(0.9, abs=1e-6), "it goes on from the second"
    assert robot.limit(chunk, 9.0, 0.0, execute=2).tolist() == [[0] * 6 + [1]] * 5
    assert robot.counts["stale"] == 2


def test_unknown_words_slow_it_down():
    robot = Envelope(SPEC, calibration=Calibration.of(small_policy(), TRAINED_SO))
    judged = robot.judge(moment(told="pick up the crimson ball"), 0.0)
    unknown = ("instruction: unknown word 'crimson'",)
    assert (judged.mode, judged.reasons) == (Mode.DEGRADED, unknown)
    assert judged.observation.instruction == ["pick up the crimson ball"]
    assert robot.judge(moment(told="flurbish the quonset"), 0.1).mode is Mode.HOLD


def test_modalities_that_the_client_says_are_absent_or_late():
    robot = Envelope(SPEC, calibration=ranges())
    seen = moment()
    absent = Observation(seen.images, seen.state, seen.instruction, {"images.front": np.array([False])})
    assert robot.judge(absent, 0.0).reasons == ("images.front: missing",)
    robot = Envelope(SPEC, calibration=ranges())
    assert robot.judge(moment(), 9.0, {"images.wrist": 8.5}).reasons == ("images.wrist: late, 0.500 s old",)


def strange(threshold: float = 9.0) -> Calibration:
    everything = pattern(SPEC.modalities)
    return ranges(scores={everything: Score(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), threshold)})


def test_strange_features_slow_it_down_and_hold_it_when_they_last():
    robot = Envelope(SPEC, SafetyConfig(strange_after=2, recover_after=2), strange())
    sound(robot, 1)
    robot.notice(np.array([0.0, 3.0]))
    assert robot.mode is Mode.NOMINAL
    robot.notice(np.array([3.1, 0.0]))
    assert (robot.mode, robot.reasons) == (Mode.DEGRADED, ("features out of distribution, 9.6 above 9.0",))
    sound(robot, 1, 1)
    robot.notice(np.array([np.nan, 0.0]))
    assert robot.mode is Mode.HOLD
    robot.notice(np.zeros(2))
    sound(robot, 4, 2)
    assert robot.mode is Mode.NOMINAL
    robot.judge(moment(wrist=BLACK), 0.6)
    robot.notice(np.full(2, 99.0))
    assert robot.mode is Mode.DEGRADED, "without the wrist there is no such score"


def test_features_are_scored_for_what_the_policy_had_when_it_was_asked():
    """A camera comes back, or goes, while the policy computes."""
    for was, now, mode in (({}, {"wrist": BLACK}, Mode.HOLD), ({"wrist": BLACK}, {}, Mode.DEGRADED)):
        robot = Envelope(SPEC, SafetyConfig(trust_after=1, strange_after=1), strange())
        robot.judge(moment(0, **was), 0.0)
        asked = robot.present
        robot.judge(moment(1, **now), 0.1)
        robot.notice(np.full(2, 99.0), asked)
        assert robot.mode is mode, "there is a score for everything alone"


def test_every_change_of_mode_is_in_the_audit(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl", clock=lambda: 7.0)
    robot = Envelope(SPEC, SafetyConfig(stop_after=2), ranges(), audit, "arm 1")
    sound(robot, 2)
    for tick in range(2, 6):
        robot.judge(moment(tick, front=BLACK, wrist=None), tick / 10)
    robot.reset()
    audit.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    changes = [(line["from"], line["to"]) for line in lines]
    assert changes == [("nominal", "hold"), ("hold", "stopped"), ("stopped", "nominal")]
    assert lines[0]["reasons"] == ["images.front: black", "images.wrist: missing", "no camera is left"]
    assert (lines[0]["robot"], lines[0]["time"], lines[0]["at"]) == ("arm 1", 0.2, 7.0)
    assert lines[0]["state"] == pytest.approx([0.002] * 8) and lines[0]["present"] == ["state", "instruction"]


def test_a_stopped_robot_needs_a_reset_and_tells_why_until_then():
    robot = Envelope(SPEC, SafetyConfig(stop_after=1), ranges())
    sound(robot, 1)
    robot.limit(FORWARD, 0.0, 0.0)
    robot.judge(moment(1, told=""), 0.1)
    sound(robot, 200, 2)
    assert (robot.mode, robot.reasons[0]) == (Mode.STOPPED, "instruction: empty")
    assert robot.limit(FORWARD, 20.0, 0.0).tolist() == [0, 0, 0, 0, 0, 0, 1]
    robot.reset()
    assert (robot.mode, robot.limit(FORWARD, 20.0, 0.0)[0]) == (Mode.NOMINAL, 0), "it has seen nothing since"
    sound(robot, 1, 201)
    assert robot.limit(FORWARD, 20.1, 0.0)[0] == 1


GARBAGE = [
    *(None, 0, -1, float("nan"), "", "front", b"\0" * 9, [], {}, [[1], [2, 3]], object(), np.array(5), np.zeros(0)),
    *(np.zeros((1, 32, 32, 3)), np.zeros((1, 8), np.complex64), np.array([["a"]]), np.full((1, 8), 1e308)),
    *(np.zeros((1, 32, 32), np.uint8), np.zeros((1, 0, 0, 3), np.uint8), np.array([None]), torch.zeros(1, 8)),
    *(torch.zeros(1, 9, 9, 3, dtype=torch.uint8), np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 8), -np.inf)),
]


def test_no_sequence_of_inputs_lets_a_wrong_action_out_or_leaves_stopped():
    """Sound and broken inputs, silence, strange features and actions of every kind, in 40 random orders."""
    rng, config = random.Random(0), {"box_low": (-0.3,) * 3, "box_high": (0.3,) * 3, "step": (0.01,) * 3}
    policy, stops = small_policy(), 0
    for run in range(40):
        limits = LimitsConfig(max_speed=0.08, **config) if run % 2 else LimitsConfig()
        timing = {name: rng.randint(1, 9) for name in ("stop_after", "recover_after", "trust_after", "silent_after")}
        robot, now, stopped = Envelope(SPEC, SafetyConfig(limits=limits, **timing), strange()), 0.0, False
        for tick in range(40):
            now += rng.choice([0.0, 0.1, 0.1, 0.1, 2.0])
            changes = {name: rng.choice(GARBAGE) for name in ("front", "wrist", "state") if rng.random() < 0.1}
            told = rng.choice(["", "\0", "빨간 공을 집어줘", "ball " * 999]) if rng.random() < 0.05 else TOLD
            if rng.random() < 0.8:
                judged = robot.judge(moment(tick, told, **changes), now, rng.choice([None, {"state": now - 1e3}]))
                assert tick % 8 or policy.prepare(judged.observation)
            else:
                robot.silent(now)
            if rng.random() < 0.5:
                robot.notice(np.array([rng.choice([0.0, 1.0, 5.0, np.nan]), 0.0]))
            action = np.array([rng.choice([0.0, 0.3, -1.0, 7.0, 1e300, np.nan, np.inf]) for _ in range(7)])
            sent = robot.limit(rng.choice([action, action, None, action[:3]]), now, rng.choice([0.0, 0.5, 3.0, np.nan]))
            assert sent.shape == (7,) and np.isfinite(sent).all() and (np.abs(sent) <= 1.2 + 1e-5).all()
            assert stopped is False or robot.mode is Mode.STOPPED
            stopped = robot.mode is Mode.STOPPED
            if stopped or robot.mode is Mode.HOLD:
                assert not sent[:6].any()
            if run % 2:
                assert (np.abs(sent[:3]) <= 0.8 + 1e-6).all()
        stops += stopped
    assert 10 < stops < 40


@pytest.mark.parametrize("fail", ["", "front", "wrist"])
def test_on_the_tabletop_a_clean_episode_has_no_alarm_and_a_camera_that_fails_is_found_at_once(fail):
    """The scripted expert drives; from the tenth step on, a camera freezes."""
    with closing(envs.make("tabletop")) as env:
        spec = env.unwrapped.embodiment
        box = LimitsConfig(box_low=(-0.27, -0.22, 0.0), box_high=(0.27, 0.22, 0.3))
        for seed in range(3):
            robot, ended, modes, frozen = Envelope(spec, SafetyConfig(limits=box)), False, [], None
            seen, info = env.reset(seed=seed)
            expert = env.unwrapped.expert()
            while not ended:
                images = {camera: seen[f"observation.images.{camera}"][None] for camera in spec.cameras}
                if fail and len(modes) >= 10:
                    images[fail] = frozen = images[fail] if frozen is None else frozen
                now = len(modes) / 10
                judged = robot.judge(Observation(images, seen["observation.state"][None], [info["task"]]), now)
                modes.append(judged.mode)
                action = expert.action()
                sent = robot.limit(action, now, 0.0)
                if not fail:
                    assert sent == pytest.approx(action, abs=1e-5)
                seen, _, terminated, truncated, info = env.step(sent)
                ended = terminated or truncated
            assert info["is_success"]
            found = modes.index(Mode.DEGRADED) if Mode.DEGRADED in modes else None
            assert set(modes[:10]) == {Mode.NOMINAL}
            assert (found is None) if not fail else 12 <= found <= 13, "two repetitions, and 10 mm of motion"


def test_a_policy_can_act_on_whatever_it_is_given():
    """An untrained policy under the envelope, with both cameras failing in turn."""
    policy, robot = small_policy(), Envelope(SPEC, calibration=ranges())
    controller = Controller(policy)
    for tick in range(30):
        broken = {"front": BLACK} if tick % 3 else {"wrist": None, "state": np.full((1, 8), np.inf)}
        judged = robot.judge(moment(tick, **(broken if tick > 5 else {})), tick / 10)
        sent = robot.limit(controller.act(judged.observation)[0], tick / 10, 0.0)
        assert np.isfinite(sent).all()
    assert robot.mode is Mode.HOLD


def test_modes_health_and_limits_load_no_torch():
    code = "import sys, plait.safety.modes, plait.safety.health, plait.safety.limits, plait.safety.audit\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"required: no modality 'images\.top'"):
        Envelope(SPEC, SafetyConfig(required=("images.top",)))
    with pytest.raises(ValueError, match="trust_after: 0 is too small"):
        SafetyConfig(trust_after=0)


def test_after_a_pause_a_stop_stays_but_not_where_the_robot_was():
    spec = replace(SPEC, actions=SPEC.state, action_kind="absolute", action_low=None, action_high=None)
    robot, blind = Envelope(spec, SafetyConfig(stop_after=1)), {"front": None, "wrist": None}
    robot.judge(moment(0), 0.0)
    robot.judge(moment(1, **blind), 0.1)
    stopped = robot.reasons
    assert robot.mode is Mode.STOPPED and robot.still() == pytest.approx(np.full(8, 0.001))
    robot.resume()
    assert (robot.mode, robot.reasons) == (Mode.STOPPED, stopped)
    robot.judge(moment(500), 9.0)  # somebody has moved the arm
    assert robot.limit(np.zeros(8), 9.0, 0.0) == pytest.approx(np.full(8, 0.5))
    robot.reset()
    assert robot.mode is Mode.NOMINAL
