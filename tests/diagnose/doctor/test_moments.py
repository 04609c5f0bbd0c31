"""Moments: pictures that are late or early are told, with the way back; noise and other faults are not taken for it."""

from pathlib import Path

import numpy as np
import pytest

from faults import action, early, images, late, plant
from plait.diagnose.doctor.moments import REACH, lag_of

CAMERAS = ("front", "wrist")
FAULTS = {
    "cameras 'front' and 'wrist': pictures are 1 frame late in 3 of 3": images(late(1), *CAMERAS),
    "cameras 'front' and 'wrist': pictures are 3 frames late in 3 of 3": images(late(3), *CAMERAS),
    "with the picture 2 frames earlier": images(early(2), *CAMERAS),
    "camera 'wrist': pictures are 2 frames late in 3 of 3": images(late(2), "wrist"),
}


def noisy(values: np.ndarray) -> np.ndarray:
    """Up to one grey level more or less."""
    change = np.random.default_rng(0).integers(-1, 2, values.shape)
    return np.clip(values.astype(int) + change, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sentence", FAULTS)
def test_a_delay_is_named(sentence: str, error, pick: Path, tmp_path: Path) -> None:
    assert sentence in error("moments", plant(pick, tmp_path / "d", FAULTS[sentence]))


def test_noise_hides_no_delay_and_is_none(error, pick: Path, tmp_path: Path) -> None:
    delayed = images(lambda values: noisy(late(3)(values)), *CAMERAS)
    assert "3 frames late" in error("moments", plant(pick, tmp_path / "late", delayed))
    error("moments", plant(pick, tmp_path / "noise", images(noisy, *CAMERAS)), "ok")


def test_some_late_episodes_are_named(error, pick: Path, tmp_path: Path) -> None:
    told = error("moments", plant(pick, tmp_path / "d", images(late(2), *CAMERAS), slice(3, 5)))
    assert "2 frames late in 1 of 3 replayed episodes (4)" in told


@pytest.mark.parametrize("change", [lambda v: v[:1].repeat(len(v), 0), lambda v: v[:, ::-1], np.zeros_like])
def test_a_frozen_turned_or_black_camera_is_not_late(change, error, pick: Path, tmp_path: Path) -> None:
    error("moments", plant(pick, tmp_path / "d", images(change, *CAMERAS)), "ok")


def test_what_cannot_be_told_is_left_out(error, pick: Path, tmp_path: Path) -> None:
    assert error("moments", pick, "skipped", simulated=False) == "no environment (--env) is given"
    elsewhere = plant(pick, tmp_path / "d", action(late(2)))
    assert "leads to the recorded states" in error("moments", elsewhere, "skipped")


@pytest.mark.parametrize("lag", range(-REACH + 1, REACH))
def test_the_lag_of_a_moving_spot(lag: int) -> None:
    drawn = np.zeros((24, 8, 32, 3), np.float32)
    drawn[np.arange(24), :, np.arange(24)] = 50
    noise = np.random.default_rng(0).normal(0, 4, drawn.shape)  # as video leaves it
    assert lag_of(np.roll(drawn, lag, 0), drawn) == lag_of(np.roll(drawn, lag, 0) + noise, drawn) == lag
    assert lag_of(drawn * 0, drawn * 0) == 0
