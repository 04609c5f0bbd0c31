"""Settings that make no sense are refused with a sentence; if one gets through all the same, the robot holds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from plait.cli.serve import _settings
from plait.config import from_dict
from plait.safety.bounds import LimitsConfig, Seen, ratio
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.health import HealthConfig
from plait.safety.limits import Limits
from plait.spec import Spec

ARM = Spec({}, ("x", "y", "z"), ("x", "y", "z", "gripper"), (-1.0,) * 4, (1.0,) * 4, action_kind="delta")
JOINTS = Spec({}, ("j1", "j2"), ("j1", "j2"), action_kind="absolute")
UNLIMITED = "give a finite number above 0, or leave it out for no limit"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ('{"limits": {"degraded_speed": -0.75}}', "limits.degraded_speed: -0.75; give a share, from 0 to 1"),
        ('{"limits": {"degraded_speed": NaN}}', "limits.degraded_speed: nan; give a share, from 0 to 1"),
        ('{"limits": {"degraded_speed": 5}}', "limits.degraded_speed: 5.0; give a share, from 0 to 1"),
        ('{"limits": {"max_speed": NaN}}', f"limits.max_speed: nan; {UNLIMITED}"),
        ('{"limits": {"max_speed": 0}}', f"limits.max_speed: 0.0; {UNLIMITED}"),
        ('{"limits": {"max_acceleration": Infinity}}', f"limits.max_acceleration: inf; {UNLIMITED}"),
        ('{"limits": {"step": [1, NaN, 1]}}', "limits.step: nan; give a finite number other than 0"),
        ('{"limits": {"step": [1, 1, 0]}}', "limits.step: 0.0; give a finite number other than 0"),
        ('{"limits": {"action_margin": -1}}', "limits.action_margin: -1.0; give a finite share, 0 or more"),
        ('{"limits": {"gripper": NaN}}', "limits.gripper: nan; give a finite number"),
        ('{"health": {"late": -5}}', "health.late: -5; give a finite number, 0 or more"),
        ('{"health": {"frozen_motion": NaN}}', "health.frozen_motion: nan; give a finite number, 0 or more"),
        ('{"health": {"state_margin": Infinity}}', "health.state_margin: inf; give a finite number, 0 or more"),
        ('{"health": {"deviation": -1}}', "health.deviation: -1.0; give a finite number, 0 or more"),
        ('{"health": {"frozen": 0}}', "health.frozen: 0; give a whole number, at least 1"),
        ('{"health": {"longest": 0}}', "health.longest: 0; give a whole number, at least 1"),
        ('{"hold_after": 0}', "hold_after: 0 is too small; at least 1"),
    ],
)
def test_what_a_file_of_settings_may_not_say(settings, sentence):
    with pytest.raises(ValueError) as error:
        from_dict(SafetyConfig, json.loads(settings))
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", ["low", "high", "box_low", "box_high"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39])
def test_limits_are_finite(name, number):
    with pytest.raises(ValueError, match=rf"limits\.{name}: \S+; give a finite number, a large one where there is no"):
        LimitsConfig(**{name: (0.0, number, 0.0)})


def test_the_ends_of_ranges_and_what_is_left_out_are_let_through():
    LimitsConfig(degraded_speed=0.0, action_margin=0.0)
    LimitsConfig(degraded_speed=1, box_low=(0, -0.0), step=(-1.0, 1.0))
    HealthConfig(late=0, deviation=0.0, frozen=1, frozen_motion=0.0, state_margin=0.0, longest=1)


def test_ranges_of_training_or_embodiment_that_are_no_numbers_are_refused():
    nan = (0.0, np.nan, 0.0, 0.0)
    for spec, seen in ((replace(ARM, action_low=nan), Seen()), (ARM, Seen(nan, (1.0,) * 4))):
        with pytest.raises(ValueError, match=r"limits of y: nan to .* is empty; widen low or high"):
            Limits(spec, seen=seen)
    assert ratio("0 mm", "m") is None


def test_an_axis_that_points_the_other_way_is_slowed_like_any_other():
    limits = Limits(ARM, LimitsConfig(step=(-0.01, 0.01, 0.01), degraded_speed=0.5))
    assert limits.apply(np.array([1.0, -0.5, 0, 0]), slow=True) == pytest.approx([0.5, -0.25, 0, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["max_speed", "max_acceleration", "degraded_speed"])
def test_a_limit_that_is_no_number_all_the_same_is_a_hold_that_leaves_no_trace(name):
    limits = Limits(JOINTS, LimitsConfig(max_speed=1.0, max_acceleration=1.0))
    limits.measure(np.array([0.3, -0.2]))
    sound = getattr(limits.config, name)
    object.__setattr__(limits.config, name, np.nan)  # nothing else lets one in
    chunk, slow = np.full((4, 2), 0.31), name == "degraded_speed"
    assert limits.apply(chunk, slow, execute=2) == pytest.approx(np.tile([0.3, -0.2], (4, 1)))
    assert limits.counts["not finite"] == 2
    object.__setattr__(limits.config, name, sound)
    assert limits.apply(np.array([0.305, -0.2])) == pytest.approx([0.305, -0.2])


def test_more_cameras_than_there_are_cannot_be_asked_for():
    two = replace(ARM, cameras={"front": (32, 32), "wrist": (32, 32)})
    with pytest.raises(
        ValueError, match=r"^cameras: 5 would have to be sound, but the policy has 2; give at most as many"
    ):
        Envelope(two, SafetyConfig(cameras=5))
    Envelope(two, SafetyConfig(cameras=2))
    Envelope(ARM)


@pytest.mark.parametrize(
    "text", ['{"hold_after": 1, "hold_after": 9}', '{"limits": {"hold_after": 1, "hold_after": 9}}']
)
def test_a_file_that_sets_something_twice_is_refused(tmp_path, text):
    file = tmp_path / "safety.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"safety\.json: 'hold_after' is set more than once; leave one of them"):
        _settings(file)
    file.write_text('{"hold_after": 9, "limits": {"low": [1]}}')
    assert _settings(file) == {"hold_after": 9, "limits": {"low": [1]}}
