"""Whatever a policy says, what leaves is finite, within every limit, and standing still is what it should be."""

from dataclasses import replace

import numpy as np
import pytest

from plait.safety.bounds import LimitsConfig, Seen, inward, ratio
from plait.safety.limits import Limits
from plait.spec import Spec

ARM = Spec(
    cameras={},
    state=("x", "y", "z", "rx", "left_finger"),
    actions=("x", "y", "z", "rx", "gripper"),
    action_low=(-1.0,) * 5,
    action_high=(1.0,) * 5,
    state_units=("m", "m", "m", "rad", "m"),
    action_units=("10 mm", "10 mm", "10 mm", "0.1 rad", "sign"),
    action_kind="delta",
)
JOINTS = Spec(cameras={}, state=("j1", "j2", "gripper"), actions=("j1", "j2", "gripper"), action_kind="absolute")
AT = np.array([0.1, 0.0, 0.2, 0.0, 0.04])


def arm(at: np.ndarray | None = AT, **config: object) -> Limits:
    limits = Limits(ARM, LimitsConfig(**config))
    if at is not None:
        limits.measure(at)
    return limits


def joints(at: tuple[float, ...] | None = (0.3, -0.2, 0.5), seen: Seen | None = None, **config: object) -> Limits:
    limits = Limits(JOINTS, LimitsConfig(**config), seen or Seen())
    if at is not None:
        limits.measure(np.array(at))
    return limits


def test_an_allowed_action_stays_as_it_is():
    action = np.array([0.5, -1.0, 0.25, 0.0, 1.0], np.float32)
    limits = arm(box_low=(-1.0,) * 3, box_high=(1.0,) * 3, max_speed=1.0, max_acceleration=10.0)
    assert limits.apply(action) == pytest.approx(action, abs=1e-6)
    assert limits.counts.total() == 0


def test_the_narrowest_of_spec_training_and_user_counts():
    seen = Seen((-0.5, -0.5, 0.0, 0.0, -1.0), (0.5, 0.5, 1.0, 0.0, 1.0))
    limits = Limits(ARM, LimitsConfig(low=(-9, -0.2, -9, -9, -9), high=(9, 9, 9, 9, 0.5), action_margin=0.0), seen)
    assert limits.apply(np.full(5, -3.0)) == pytest.approx([-0.5, -0.2, 0, 0, -1], abs=1e-5)
    assert limits.apply(np.full(5, 3.0)) == pytest.approx([0.5, 0.5, 1, 0, 0.5], abs=1e-5)
    assert limits.counts == {"limits": 2}


@pytest.mark.parametrize(
    "broken", [np.full(5, np.nan), [0, 0, np.inf, 0, 0], np.zeros(4), np.zeros((1, 1, 5)), None, "left", [[0], [0, 1]]]
)
def test_what_is_no_action_is_standing_still_with_the_gripper_kept(broken):
    limits = arm()
    limits.apply(np.array([1, 1, 1, 1, 1.0]))
    assert limits.apply(broken).tolist() == [0, 0, 0, 0, 1]
    assert limits.counts["not finite"] == 1


def test_standing_still_is_no_motion_for_deltas_and_the_place_it_was_told_for_absolute_actions():
    limits = arm()
    limits.apply(np.array([1, 1, 1, 1, -0.5]))
    assert limits.hold().tolist() == [0, 0, 0, 0, -0.5]
    limits = joints()
    assert limits.hold() == pytest.approx([0.3, -0.2, 0.0])
    limits.apply(np.array([0.31, -0.2, 0.9]))
    assert limits.hold() == pytest.approx([0.31, -0.2, 0.9])


def test_a_hold_is_no_way_back_to_where_it_was_measured_long_ago():
    limits = joints()
    for step in range(1, 9):  # eight steps of one chunk, between two observations
        limits.apply(np.array([0.3 + 0.01 * step, -0.2, 0.9]))
    assert limits.hold() == pytest.approx([0.38, -0.2, 0.9])


@pytest.mark.parametrize("far", [0.38, 2.0])
def test_a_hold_is_where_the_arm_is_when_that_was_measured_since(far):
    """However far away the place is that it was told last."""
    limits = joints()
    limits.apply(np.array([far, -0.2, 0.9]))
    limits.measure(np.array([0.32, -0.2, 0.5]))
    assert limits.hold() == pytest.approx([0.32, -0.2, 0.9])


def test_only_what_was_executed_of_a_chunk_counts():
    """The place to hold, the gripper, and the motion from which the next one is limited."""
    chunk = np.array([[0.31, -0.2, 0.1], [0.33, -0.2, 0.4], [0.36, -0.2, 0.9]])
    for steps in range(4):
        limits, same = joints(max_acceleration=3.0), joints(max_acceleration=3.0)
        for each in (limits, same):
            each.apply(np.array([0.3, -0.2, 0.7]))
        limits.apply(chunk, execute=3)
        counted = limits.counts.copy()
        limits.executed(steps)
        limits.executed(steps)
        assert limits.counts == counted, "how often what has left was changed"
        same.apply(chunk, execute=steps)
        assert limits.still() == pytest.approx(same.still())
        for each in (limits, same):
            each.measure(np.array([0.33, -0.2, 0.5]))
        assert limits.apply(chunk) == pytest.approx(same.apply(chunk))


def test_a_hold_that_was_not_executed_is_no_place():
    limits = joints()
    limits.hold(steps=4, done=2)
    limits.executed(0)
    limits.measure(np.array([0.4, -0.1, 0.5]))
    assert limits.hold() == pytest.approx([0.4, -0.1, 0.0])
    limits.executed(9)
    assert limits.hold() == pytest.approx([0.4, -0.1, 0.0])


def test_who_got_no_answer_has_held_where_it_was_told_to_be_before():
    """The arm lags behind when it asks; what it asks for does not reach it, and then nothing is measured."""
    limits = joints()
    limits.apply(np.array([[0.31, -0.2, 0.1], [0.36, -0.2, 0.9]]))
    limits.measure(np.array([0.32, -0.2, 0.5]))
    limits.apply(np.array([[0.4, -0.2, 0.1]]))
    limits.executed(0)
    assert limits.hold() == pytest.approx([0.36, -0.2, 0.9])


@pytest.mark.parametrize(("age", "place"), [(0.9, 0.36), (1.0, 0.38), (2.0, 0.38)])
def test_a_state_that_is_steps_old_is_no_place_to_hold(age, place):
    """The arm goes on by 10 mrad in each step, and follows at once."""
    limits = joints()
    for step in range(1, 9):
        limits.measure(np.array([0.3 + 0.01 * max(0, step - 1 - age), -0.2, 0.5]), age)
        limits.apply(np.array([0.3 + 0.01 * step, -0.2, 0.9]))
    limits.measure(np.array([0.36, -0.2, 0.5]), age)
    assert limits.hold() == pytest.approx([place, -0.2, 0.9])


def test_what_an_old_state_does_not_show_yet_counts():
    """10 mm in each of three steps, of which a state that is two steps old shows the first."""
    limits = arm(box_high=(0.135, 1, 1))
    for _ in range(3):
        limits.apply(np.array([1.0, 0, 0, 0, 0]))
    limits.measure(AT + np.array([0.01, 0, 0, 0, 0]), 2.0)
    assert limits.apply(np.array([1.0, 0, 0, 0, 0]))[0] == pytest.approx(0.5, abs=1e-5)


def test_an_arm_that_sinks_while_it_holds_is_held_where_it_was():
    limits = joints()
    limits.hold()
    for sunk in range(5):
        limits.measure(np.array([0.3, -0.2 - 0.01 * sunk, 0.5]))
        assert limits.hold()[:2] == pytest.approx([0.3, -0.2])
    limits.apply(np.array([0.3, -0.25, 0.0]))
    limits.measure(np.array([0.3, -0.24, 0.5]))
    assert limits.hold()[:2] == pytest.approx([0.3, -0.24]), "and the next time where it is then"


def test_absolute_actions_need_a_measured_place():
    with pytest.raises(RuntimeError, match="nothing sound was measured yet"):
        joints(at=None).apply(np.zeros(3))
    with pytest.raises(ValueError, match="absolute actions: it is not known how actions move the state; name the"):
        Limits(replace(JOINTS, state=("a", "b", "c")))


def test_before_anything_was_told_the_gripper_gets_what_is_configured():
    assert arm().hold()[4] == 0
    assert arm(gripper=-1.0).hold()[4] == -1


def test_the_gripper_outlives_a_reset():
    limits = arm()
    limits.apply(np.array([0, 0, 0, 0, 1.0]))
    limits.reset()
    assert limits.hold()[4] == 1


def test_the_hand_stays_in_its_box_through_a_whole_chunk():
    limits = arm(box_low=(0.0, -0.1, 0.15), box_high=(0.125, 0.1, 0.3))
    steps = np.array([limits.apply(np.array([1, 0, -1, 0, 0])) for _ in range(8)])
    assert steps[:, 0] == pytest.approx([1, 1, 0.5, 0, 0, 0, 0, 0], abs=1e-5)
    assert steps[:, 2] == pytest.approx([-1] * 5 + [0] * 3, abs=1e-5)
    assert limits.counts["box"] == 6


def test_who_is_outside_of_the_box_may_come_back_only():
    limits = arm(box_low=(0.2, -1, -1), box_high=(0.5, 1, 1))
    assert limits.apply(np.array([-1.0, 0, 0, 0, 0]))[0] == 0
    assert limits.apply(np.array([1.0, 0, 0, 0, 0]))[0] == pytest.approx(1)


def test_what_was_commanded_and_is_not_yet_seen_counts():
    """The hand lags behind: two commands of 10 mm, of which 8 mm are measured, leave 5 mm to the border at 125 mm."""
    limits = arm(box_high=(0.125, 1, 1))
    for _ in range(2):
        limits.apply(np.array([1.0, 0, 0, 0, 0]))
    limits.measure(AT + np.array([0.012, 0, 0, 0, 0]))
    assert limits.apply(np.array([1.0, 0, 0, 0, 0]))[0] == pytest.approx(0.5, abs=1e-5)


def test_a_box_without_a_known_place_holds():
    limits = arm(at=None, box_low=(0.0,) * 3)
    assert limits.needs_position
    assert limits.apply(np.ones(5)).tolist() == [0, 0, 0, 0, 0]


def test_speed_keeps_the_direction():
    limits = arm(max_speed=0.05)  # m/s: 5 mm in a step
    assert limits.apply(np.array([1, -0.5, 0, 1, 1])) == pytest.approx([0.5, -0.25, 0, 1, 1], abs=1e-6)
    limits = joints(max_speed=0.5)
    assert limits.apply(np.array([0.5, -0.25, 0.0]))[:2] == pytest.approx([0.35, -0.2125])


def test_acceleration_is_limited_and_braking_is_not():
    limits = arm(max_acceleration=0.3)  # 3 mm more in every step
    steps = [limits.apply(np.array([1.0, 0, 0, 0, 0]))[0] for _ in range(5)]
    assert steps == pytest.approx([0.3, 0.6, 0.9, 1, 1], abs=1e-6)
    assert limits.apply(np.zeros(5))[0] == 0
    limits.apply(np.array([0.3, 0, 0, 0, 0]))
    assert limits.apply(np.array([-1.0, 0, 0, 0, 0]))[0] == pytest.approx(-0.3)


def test_degraded_is_slow():
    action, half = np.array([1, -0.5, 0, 1, 1]), {"degraded_speed": 0.5}
    assert arm(**half).apply(action, slow=True) == pytest.approx([0.5, -0.25, 0, 0.5, 1], abs=1e-6)
    assert arm(**half).apply(0.4 * action, slow=True) == pytest.approx(0.4 * action), "what is slow stays as it is"
    limits = joints(seen=Seen(change=(0.1, 0.1, 1.0)), **half)
    assert limits.apply(np.array([0.4, -0.2, 1.0]), slow=True) == pytest.approx([0.35, -0.2, 1.0])


def test_who_cannot_be_slowed_holds():
    assert joints().apply(np.array([0.4, -0.2, 1.0]), slow=True)[:2] == pytest.approx([0.3, -0.2])
    free = replace(ARM, action_low=None, action_high=None)
    assert Limits(free).apply(np.ones(5), slow=True).tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("spec", "config", "message"),
    [
        (replace(ARM, action_kind=None), {}, "action_kind: None; give 'delta' or 'absolute'"),
        (ARM, {"low": (0.0,) * 4}, "limits: 4 limits for 5 entries"),
        (ARM, {"box_low": (0.0,) * 2}, "box_low: 2 numbers, expected 3, for x, y, z"),
        (ARM, {"box_low": (1.0,) * 3, "box_high": (0.0,) * 3}, "box_low .* is above box_high"),
        (ARM, {"high": (9, 9, 9, 9, -2.0)}, "limits of gripper: -1 to -2 is empty"),
        (replace(ARM, action_units=None), {"max_speed": 1.0}, "max_speed: it is not known how .* give step"),
    ],
)
def test_limits_that_make_no_sense_are_refused(spec, config, message):
    with pytest.raises(ValueError, match=message):
        Limits(spec, LimitsConfig(**config))


def test_step_tells_what_units_do_not():
    limits = Limits(replace(ARM, action_units=None), LimitsConfig(step=(0.01,) * 3, max_speed=0.05))
    assert limits.apply(np.ones(5))[:3] == pytest.approx([0.5] * 3, abs=1e-6)


def test_units():
    assert (ratio("10 mm", "m"), ratio("m", "mm"), ratio("deg", "rad")) == (0.01, 1000, np.pi / 180)
    assert (ratio("sign", "m"), ratio("count", "count")) == (None, 1.0)


def test_rounding_leaves_no_limit():
    bounds = np.array([0.1, -0.1, 1 / 3, 1e-7])
    low, high = (inward(bounds, direction).astype(np.float32).astype(float) for direction in (1, -1))
    assert (low >= bounds).all() and (high <= bounds).all()


def test_no_sequence_of_actions_leaves_the_limits():
    """Numbers of every kind; states that jump; holds in between. Checked against the limits themselves."""
    rng = np.random.default_rng(0)
    special = np.array([np.nan, np.inf, -np.inf, 1e300, -1e38, 0.0, 1e-320])
    for _ in range(60):
        low, high = np.sort(rng.uniform(-0.2, 0.4, (2, 3)), axis=0)
        speed, acceleration = rng.uniform(0.01, 0.2), rng.uniform(0.05, 2)
        box = {"box_low": tuple(low), "box_high": tuple(high)}
        limits = arm(**box, max_speed=speed, max_acceleration=acceleration, gripper=0.5)
        place, before = AT[:3].copy(), np.zeros(3)
        for _ in range(60):
            action = rng.normal(0, 1, 5) * 10.0 ** rng.integers(-3, 4)
            action = np.where(rng.random(5) < 0.02, rng.choice(special, 5), action)
            sent = limits.hold() if rng.random() < 0.1 else limits.apply(action, slow=rng.random() < 0.2)
            assert sent.dtype == np.float32 and np.isfinite(sent).all() and (np.abs(sent) <= 1).all()
            motion = 0.01 * sent[:3].astype(float)
            assert (np.abs(motion) <= speed / 10 + 1e-7).all()
            faster = np.where(motion * before > 0, np.abs(motion) - np.abs(before), np.abs(motion))
            assert (faster <= acceleration / 100 + 1e-7).all()
            goal = place + motion
            assert (goal >= np.minimum(low, place) - 1e-7).all() and (goal <= np.maximum(high, place) + 1e-7).all()
            place, before = goal, motion
            if rng.random() < 0.3:  # it follows, more or less
                place = place + rng.uniform(-0.02, 0.02, 3) * (rng.random() < 0.2)
                limits.measure(np.array([*place, 0, 0]))
                place = limits._target.copy()


CHUNKS = [
    (arm, {}),
    (arm, {"max_speed": 0.05, "max_acceleration": 0.1, "box_low": (0.05, -0.1, 0.15), "box_high": (0.2, 0.1, 0.3)}),
    (joints, {"max_speed": 0.5}),
    (joints, {"max_speed": 0.5, "max_acceleration": 3.0, "box_low": (-0.5, -0.4), "box_high": (0.4, 0.5)}),
]


@pytest.mark.parametrize(("robot", "config"), CHUNKS)
def test_a_chunk_is_limited_as_its_steps_are(robot, config):
    """From wherever the steps before have led, and the rest of a chunk leaves no trace."""
    rng = np.random.default_rng(0)
    whole, single = robot(**config), robot(**config)
    for _ in range(60):
        slow, execute = bool(rng.random() < 0.2 and config), int(rng.integers(1, 7))
        chunk = rng.normal(0, 0.5, (6, len(whole.low))) * rng.choice([0.1, 1.0, 5.0])
        sent = whole.apply(chunk, slow, execute)
        steps = np.array([single.apply(action, slow) for action in chunk[:execute]])
        assert sent.shape == chunk.shape and sent[:execute] == pytest.approx(steps, abs=1e-6)
        assert whole.counts == single.counts
        assert whole.still() == pytest.approx(single.still(), abs=1e-6)
        if rng.random() < 0.2:
            assert whole.hold(steps=6, done=2)[1] == pytest.approx([single.hold() for _ in range(2)][1])
        at = rng.uniform(-0.3, 0.3, len(whole.spec.state))
        for each in (whole, single):
            each.measure(at)


def test_of_a_chunk_with_a_number_that_is_none_nothing_is_believed():
    limits, chunk = arm(), np.ones((4, 5))
    limits.apply(chunk)
    chunk[3, 0] = np.nan
    assert limits.apply(chunk, execute=2).tolist() == [[0, 0, 0, 0, 1]] * 4
    assert limits.counts["not finite"] == 2
    assert limits.apply(np.ones((3, 4))).tolist() == [[0, 0, 0, 0, 1]] * 3
    assert limits.apply(np.ones((0, 5))).shape == (0, 5)


def test_no_sequence_of_absolute_actions_leaves_the_limits():
    """Joints that are told places: from where they were told to be, no step is too long, nor out of the box."""
    rng, step = np.random.default_rng(1), 0.05
    for _ in range(40):
        box = {"box_low": (-0.5, -0.4), "box_high": (0.4, 0.5)}
        limits = joints((0.0, 0.0, 0.5), low=(-0.6, -0.6, 0.0), high=(0.6, 0.6, 1.0), max_speed=10 * step, **box)
        place = np.zeros(2)
        for _ in range(40):
            action = rng.normal(0, 1, 3) * 10.0 ** rng.integers(-2, 3)
            action[rng.random(3) < 0.03] = np.nan
            held = rng.random() < 0.1
            sent = limits.hold() if held else limits.apply(action, slow=rng.random() < 0.2)
            assert np.isfinite(sent).all() and 0 <= sent[2] <= 1
            assert held or (np.abs(sent[:2] - place) <= step + 1e-6).all()
            assert (sent[:2] >= np.array([-0.5, -0.4]) - 1e-6).all() and (sent[:2] <= np.array([0.4, 0.5]) + 1e-6).all()
            place = place + rng.uniform(0, 1) * (sent[:2] - place)  # it follows, more or less
            limits.measure(np.array([*place, 0.5]))
            place = limits._target.copy()
