"""Numbers: not finite, constant, cut off, beyond limits, with wrong statistics, at wrong times."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faults import X, action, episodes, plant, rewrite, state, times
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.entries import constant
from plait.nn.normaliser import Normaliser
from plait.spec import Spec
from policies import small_policy

ROTATION = np.isin(np.arange(8), (3, 4, 5))  # of the state


def policy_of(dataset: Path):
    """An untrained policy that normalises as this dataset needs it."""
    opened = Dataset.open(dataset)
    policy, statistics = small_policy(spec=opened.spec), opened.statistics()
    for key, name in (("observation.state", "normalise_state"), ("action", "normalise_action")):
        setattr(policy, name, Normaliser(statistics[key]["mean"], statistics[key]["std"]))
    return policy


def test_what_is_not_finite_is_an_error_and_the_rest_is_examined(doctor, error, pick: Path, tmp_path: Path) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[40, X] = np.nan
        return values

    spoiled = rewrite(pick, tmp_path / "d", "action", spoil)
    assert "action is not finite in 1 frames, first in episode" in error("whole", spoiled)
    assert [found.severity for found in doctor("motion", spoiled)] == ["ok"]
    assert [found.severity for found in doctor("replay", spoiled)] == ["ok"]


def test_an_entry_that_stands_still_while_its_counterpart_moves_is_named(error, pick: Path, tmp_path: Path) -> None:
    commanded = error("constant", plant(pick, tmp_path / "a", action(times(X, 0))))
    assert "action: x is always 0, although the state's x moves" in commanded
    felt = error("constant", plant(pick, tmp_path / "s", state(times(X, 0))))
    assert "state: x is always 0, although the action's x changes" in felt
    assert "no entry of the action ever changes" in error(
        "constant", plant(pick, tmp_path / "n", action(np.zeros_like))
    )


def test_noise_and_another_unit_are_no_movement(error, doctor, pick: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noisy(values: np.ndarray) -> np.ndarray:
        return (values + rng.normal(0, 0.01, values.shape) * ROTATION).astype(np.float32)

    degrees = state(lambda values: np.where(ROTATION, np.degrees(values), values).astype(np.float32))
    noise = plant(pick, tmp_path / "noise", state(noisy))
    assert "action: rx, ry, rz never change" in error("constant", noise, "ok")
    assert "action: rx, ry, rz never change" in error("constant", plant(pick, tmp_path / "deg", degrees), "ok")
    unitless = Dataset.open(noise)
    unitless = replace(unitless, spec=replace(unitless.spec, state_units=None))
    assert [found.severity for found in constant(Case(unitless))] == ["ok"]
    two = DatasetWriter(tmp_path / "two", Spec({}, ("a", "b"), ("a", "b"), rate=10.0))  # of one unit, one is noise
    for _ in range(4):
        way = np.stack([np.linspace(0, 1, 30), rng.normal(0, 0.1, 30)], axis=1).astype(np.float32)
        two.append(Episode({}, way, way * [1, 0], "go"))
    assert "action: b never change" in error("constant", tmp_path / "two", "ok")


def test_entries_that_nobody_uses_are_no_fault(error, pick: Path) -> None:
    assert "action: rx, ry, rz never change" in error("constant", pick, "ok")


def test_an_entry_that_is_cut_off_is_worth_a_look(error, pick: Path, tmp_path: Path) -> None:
    low = plant(pick, tmp_path / "d", state(lambda values: np.maximum(values, [0.05, *[-9] * 7]).astype(np.float32)))
    assert "state: x is 0.05 in" in error("saturated", low, "warning")


def test_an_entry_that_is_cut_off_at_both_ends_is_worth_a_look(error, pick: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(pick)
    assert dataset.state is not None
    low, high = np.quantile(dataset.state[:, X].numpy(), [0.15, 0.85])

    def cut(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.clip(values[:, :1], low, high), values[:, 1:]], axis=1).astype(np.float32)

    told = error("saturated", plant(pick, tmp_path / "d", state(cut)), "warning")
    assert f"state: x is {low:.4g} or {high:.4g} in 3" in told and "(above 20% it is cut off)" in told
    error("saturated", plant(pick, tmp_path / "a", action(lambda v: np.sign(v).astype(np.float32))), "ok")


def test_actions_beyond_their_limits_are_named(error, pick: Path, tmp_path: Path) -> None:
    beyond = plant(pick, tmp_path / "d", action(times(X, 3)))
    assert "action: x is up to 3, beyond the limits" in error("limits", beyond)


def test_statistics_of_other_data_are_named(error, pick: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pick, tmp_path / "d")
    file = folder / "meta/stats.json"
    written = json.loads(file.read_text())
    written["action"]["std"][X] *= 2
    file.write_text(json.dumps(written))
    assert "action: std of x is" in error("statistics", folder)
    file.unlink()
    assert "meta/stats.json is missing" in error("statistics", folder, "warning")


def test_an_action_too_small_to_be_normalised_is_named(error, pick: Path, tmp_path: Path) -> None:
    tiny = plant(pick, tmp_path / "d", action(times(X, 1e-5)))
    assert "below 0.0001 an entry counts as constant" in error("round trip", tiny)


def test_a_policy_that_normalises_otherwise_is_named(doctor, error, pick: Path, tmp_path: Path) -> None:
    policy = policy_of(pick)
    for check in ("normaliser", "round trip"):
        assert [found.severity for found in doctor(check, pick, policy=policy)] == ["ok"]
    scaled = plant(pick, tmp_path / "d", state(times(X, 1000)))
    assert "observation.state: for x the policy has mean" in error("normaliser", scaled, policy=policy)
    policy.normalise_action.std[X] = torch.tensor(1e-6)
    assert "action: x loses" in error("round trip", pick, policy=policy)


def test_another_embodiment_is_named(doctor, error, pick: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(pick)
    spec = replace(dataset.spec, rate=20.0, gripper="positive_opens")
    DatasetWriter(tmp_path / "d", spec).append(*episodes(dataset))
    found = doctor("conventions", tmp_path / "d")
    assert [each.severity for each in found] == ["error", "error"]
    assert "gripper: the dataset has 'positive_opens', the environment has 'positive_closes'" in found[0].sentence


def test_words_that_a_policy_does_not_know_are_named(error, pick: Path) -> None:
    policy = small_policy(spec=Dataset.open(pick).spec)
    assert "the policy does not know the words" in error("conventions", pick, "warning", policy=policy)


def test_a_clock_that_drifts_jumps_or_stands_still_is_named(error, pick: Path, tmp_path: Path) -> None:
    drifts = rewrite(pick, tmp_path / "a", "timestamp", lambda time: time * 1.01)
    assert "the clock drifts: 9.901 frames per second by timestamp, fps says 10" in error("clock", drifts)

    def repeated(time: np.ndarray) -> np.ndarray:
        time[5] = time[4]
        return time

    twice = rewrite(pick, tmp_path / "b", "timestamp", repeated)
    assert "in episodes 0 a time comes twice" in error("clock", twice)
    assert "timestamp does not match fps" in error("whole", twice)
    rng = np.random.default_rng(0)
    jitter = rewrite(pick, tmp_path / "c", "timestamp", lambda time: time + rng.uniform(-0.01, 0.01, time.shape))
    assert "ms away from frame number / fps" in error("clock", jitter, "warning")


@pytest.mark.parametrize("seed", range(4))
def test_jitter_is_not_told_as_drift(seed: int, error, pick: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    noise = rewrite(pick, tmp_path / "j", "timestamp", lambda time: time + 0.02 + rng.uniform(-0.02, 0.02, time.shape))
    assert "ms away from frame number / fps" in error("clock", noise, "warning")
    both = rewrite(noise, tmp_path / "d", "timestamp", lambda time: time * 1.02)
    assert "the clock drifts" in error("clock", both)


def test_conventions_are_those_of_what_was_given(error, pick: Path) -> None:
    assert error("conventions", pick, "ok").endswith("limits and rate are those of the environment")


def test_a_fragment_is_worth_a_look(error, pick: Path, tmp_path: Path) -> None:
    def cut(episode):
        images = {camera: pictures[:2] for camera, pictures in episode.images.items()}
        return replace(episode, images=images, state=episode.state[:2], action=episode.action[:2])

    assert "episodes 3 have 2 to 2 frames" in error("length", plant(pick, tmp_path / "d", cut, slice(3, 4)), "warning")
