"""Regression without a simulator: kind, delay, direction and scale of the actions; gripper; rotation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faults import GRIPPER, X, action, as_places, early, exchanged, late, plant, positions, state, times
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.motion import follow
from plait.spec import Spec

JOINTS = ("shoulder.pos", "elbow.pos")
FAULTS = {
    "x: the state falls when the action is positive": action(times(X, -1)),
    "the state moves 2 frames before the action": action(late(2)),
    "the state moves 5 frames before the action": action(late(5)),
    "the state does not follow the actions (r² 0.36 at once, 0.62 when": action(late(10)),
    "the state moves 1 frame before the action": state(early(1)),
    "x, y: the state does not follow the action": action(exchanged),
    "times as far as the units say": state(positions(1000)),
    "the actions are absolute by what the state does, the dataset says delta": as_places,
    "the state does not follow the actions": action(lambda values: values[::-1].copy()),
}


def joints(folder: Path, action_of: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A robot whose conventions nobody states: two joints that wander, and what was commanded."""
    writer, rng = DatasetWriter(folder, Spec({}, JOINTS, JOINTS, rate=10.0)), np.random.default_rng(0)
    for _ in range(6):
        way = np.cumsum(rng.normal(size=(40, 2)).cumsum(0) / 10, axis=0).astype(np.float32)
        writer.append(Episode({}, way, action_of(way), "go"))
    return folder


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_fault_is_named(sentence: str, error, pick: Path, tmp_path: Path) -> None:
    assert sentence in error("motion", plant(pick, tmp_path / "d", FAULTS[sentence]), simulated=False)


def test_a_healthy_one_is_measured(doctor, pick: Path) -> None:
    (found,) = doctor("motion", pick, simulated=False)
    assert (found.severity, found.numbers["kind"], found.numbers["lag"]) == ("ok", "delta", 0)
    assert found.numbers["slope"] == pytest.approx({"x": 0.01, "y": 0.01, "z": 0.01}, rel=0.1)


def test_goals_that_the_joints_reach_later_are_fine(doctor, tmp_path: Path) -> None:
    (found,) = doctor("motion", joints(tmp_path / "d", early(3)), simulated=False)
    assert (found.severity, found.numbers["kind"], found.numbers["lag"]) == ("ok", "absolute", 2)


def test_an_action_that_repeats_the_state_is_worth_a_look(error, tmp_path: Path) -> None:
    told = error("motion", joints(tmp_path / "d", lambda way: way), "warning", simulated=False)
    assert "the state moves 1 frame before the action" in told


def test_the_gripper_closes_after_close(doctor, error, pick: Path, tmp_path: Path) -> None:
    (found,) = doctor("gripper", pick, simulated=False)
    assert (found.severity, found.numbers["r"] < -0.9) == ("ok", True)
    told = error("gripper", plant(pick, tmp_path / "d", action(times(GRIPPER, -1))), simulated=False)
    assert "they open when it is positive, the dataset says positive_closes" in told
    rng = np.random.default_rng(0)
    noise = plant(pick, tmp_path / "n", action(lambda values: rng.permuted(values, axis=0)))
    assert "at least 0.3 either way" in error("gripper", noise, "warning", simulated=False)


ROTATIONS = {
    "is no quaternion": (("qx", "qy", "qz", "qw"), lambda v: np.concatenate([v, v[:, :1]], axis=1)),
    "degrees?": (("ee.roll", "ee.pitch", "ee.yaw"), lambda v: 90 * v),
    "an axis-angle at most pi": (("rx", "ry", "rz"), lambda v: v / np.linalg.norm(v, axis=1, keepdims=True) * 4),
    "it wraps around": (("rx", "ry", "rz"), lambda v: v * np.where(np.arange(len(v)) % 2, 1, -1)[:, None]),
}


@pytest.mark.parametrize("sentence", ROTATIONS)
def test_a_rotation_that_is_none_is_named(sentence: str, doctor, tmp_path: Path) -> None:
    names, change = ROTATIONS[sentence]
    writer = DatasetWriter(tmp_path / "d", Spec({}, names, ("a",), rotation="axis_angle", rate=10.0))
    angles = np.linspace([0.5, 0.6, 0.7], [1.5, 1.0, 0.9], 20)
    writer.append(Episode({}, change(angles).astype(np.float32), angles[:, :1], "turn"))
    (found,) = doctor("rotation", tmp_path / "d", simulated=False)
    assert found.severity in ("error", "warning") and sentence in found.sentence


def test_a_unit_quaternion_is_fine(doctor, tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "d", Spec({}, ("qx", "qy", "qz", "qw"), ("a",), rate=10.0))
    half = np.linspace(0, 1, 20)[:, None]
    writer.append(Episode({}, np.concatenate([np.sin(half), 0 * half, 0 * half, np.cos(half)], axis=1), half, "turn"))
    assert [found.severity for found in doctor("rotation", tmp_path / "d", simulated=False)] == ["ok"]


def test_what_has_no_names_is_left_alone(error) -> None:
    foreign = Path(__file__).parents[2] / "fixtures/lerobot_v3_images"
    for check in ("motion", "gripper", "rotation"):
        error(check, foreign, "skipped", simulated=False)


def test_a_unit_that_nobody_states_is_not_compared(pick: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(plant(pick, tmp_path / "d", state(positions(1000))))
    unitless = replace(dataset, spec=replace(dataset.spec, state_units=None))
    assert [found.severity for found in follow(Case(unitless))] == ["ok"]
