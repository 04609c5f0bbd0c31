"""Replay: what was recorded happens again, and of each planted fault the report says what it is and how to undo it."""

from pathlib import Path

import numpy as np
import pytest

from faults import GRIPPER, X, action, as_places, early, exchanged, late, plant, positions, state, times

FAULTS = {
    "the sign of action gripper is turned": action(times(GRIPPER, -1)),
    "the sign of action x is turned": action(times(X, -1)),
    "actions x and y are exchanged": action(exchanged),
    "each action stands 2 frames too late": action(late(2)),
    "each action stands 1 frame too early": action(early(1)),
    "multiply them by 10": action(positions(0.1)),
    "multiply them by 2 ": action(positions(0.5)),
    "actions are places, the environment expects changes": as_places,
    "state x, y, z is 1000 times the environment's": state(positions(1000)),
    "state x is -1 times the environment's": state(times(X, -1)),
    "state x is the environment's y": state(exchanged),
    "each state stands 1 frame too early": state(early(1)),
    "each state stands 2 frames too late": state(late(2)),
}


def test_the_recording_happens_again(doctor, pick: Path) -> None:
    (found,) = doctor("replay", pick)
    assert found.severity == "ok"
    assert found.numbers == {"episodes": 5, "successes": 5, "difference": 0.0}


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_fault_is_named(sentence: str, error, pick: Path, tmp_path: Path) -> None:
    told = error("replay", plant(pick, tmp_path / "d", FAULTS[sentence]))
    assert sentence in told


def test_what_no_simple_fault_explains_is_an_error_too(error, pick: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = action(lambda values: np.clip(values + rng.normal(0, 1, values.shape), -1, 1).astype(np.float32))
    assert "no single sign, order, delay, scale or unit" in error("replay", plant(pick, tmp_path / "d", noise))


def test_without_a_simulator_or_seeds_it_says_why_not(error, pick: Path) -> None:
    assert error("replay", pick, "skipped", simulated=False) == "no environment (--env) is given"
    foreign = Path(__file__).parents[2] / "fixtures/lerobot_v3_images"
    assert "from which seeds" in error("replay", foreign, "skipped")
