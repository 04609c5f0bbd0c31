"""Replay: what was recorded happens again, and of each planted fault the report says what it is and how to undo it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faults import GRIPPER, X, action, as_places, early, exchanged, late, plant, positions, state, times
from plait.data.episode import Episode

FAULTS = {
    "the sign of action gripper is turned": action(times(GRIPPER, -1)),
    "the sign of action x is turned": action(times(X, -1)),
    "actions x and y are exchanged": action(exchanged),
    "each action stands 2 frames too late": action(late(2)),
    "each action stands 5 frames too late": action(late(5)),
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


def test_a_fault_of_some_episodes_names_them(error, pick: Path, tmp_path: Path) -> None:
    told = error("replay", plant(pick, tmp_path / "d", action(times(GRIPPER, -1)), slice(5)))
    assert "; of the replayed ones, episodes 0, 2, 4 are not as recorded: in these, the sign of action gripper" in told
    assert "in these" not in error("replay", plant(pick, tmp_path / "all", action(times(GRIPPER, -1))))


def test_the_worst_replay_is_told(error, pick: Path, tmp_path: Path) -> None:
    """Each episode is judged, so that the mean of five, of which one is wrong, would be within what is allowed."""
    bent = state(lambda values: values + np.array([0.02, *[0] * 7], np.float32))
    told = error("replay", plant(pick, tmp_path / "d", bent, slice(4, 5)))
    gap = float(told.partition("differ by up to ")[2].split()[0])
    assert told.startswith("5 of 5 replays succeed") and 0.05 < gap < 0.25


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_of_episodes_as_short_as_a_delay_no_delay_is_told(frames: int, error, pick: Path, tmp_path: Path) -> None:
    """Of three frames, an action that stands three frames too early would leave none as it was recorded."""
    rng = np.random.default_rng(0)

    def fragment(episode: Episode) -> Episode:
        assert episode.state is not None
        images = {camera: pictures[:frames] for camera, pictures in episode.images.items()}
        noise = rng.uniform(-1, 1, episode.action[:frames].shape).astype(np.float32)
        return replace(episode, images=images, state=episode.state[:frames], action=noise)

    told = error("replay", plant(pick, tmp_path / "d", fragment))
    assert told.startswith("0 of 5 replays succeed") and "frames too" not in told


def test_a_fragment_among_the_episodes_does_not_hide_a_delay(error, pick: Path, tmp_path: Path) -> None:
    first = iter([True, *[False] * 8])

    def late_or_cut(episode: Episode) -> Episode:
        episode = action(late(2))(episode)
        assert episode.state is not None
        if not next(first):
            return episode
        images = {camera: pictures[:2] for camera, pictures in episode.images.items()}
        return replace(episode, images=images, state=episode.state[:2], action=episode.action[:2])

    assert "each action stands 2 frames too late" in error("replay", plant(pick, tmp_path / "d", late_or_cut))


def test_without_a_simulator_or_seeds_it_says_why_not(error, pick: Path) -> None:
    assert error("replay", pick, "skipped", simulated=False) == "no environment (--env) is given"
    foreign = Path(__file__).parents[2] / "fixtures/lerobot_v3_images"
    assert "from which seeds" in error("replay", foreign, "skipped")
