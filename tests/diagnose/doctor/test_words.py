"""Words: one instruction for all, two spellings of one, and those of another episode."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faults import episodes, mispair, plant, rewrite
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.spec import Spec


def test_one_instruction_for_all_is_worth_a_look(error, pick: Path, tmp_path: Path) -> None:
    same = plant(pick, tmp_path / "d", lambda episode: replace(episode, instruction="do it"))
    assert "every frame has the instruction 'do it'" in error("words", same, "warning")


def test_two_spellings_of_one_instruction_are_worth_a_look(doctor, pick: Path, tmp_path: Path) -> None:
    spellings = iter(["Go  left!", "go left", *["go right"] * 7])
    said = plant(pick, tmp_path / "d", lambda episode: replace(episode, instruction=next(spellings)))
    warning, fine = doctor("words", said)
    assert (warning.severity, fine.severity) == ("warning", "ok")
    assert "'Go  left!' and 'go left' differ in case, spaces or punctuation alone" in warning.sentence
    assert fine.numbers == {"instructions": 2}


def test_instructions_of_other_episodes_are_named(error, pick: Path, tmp_path: Path) -> None:
    told = error("scene", mispair(pick, tmp_path / "d"))
    assert "of 9 scenes ask for something else than the instruction" in told
    assert error("scene", pick, "ok") == "9 of 9 scenes ask for what the instruction says"


def test_frames_with_another_instruction_than_their_episode_are_named(error, pick: Path, tmp_path: Path) -> None:
    last = rewrite(pick, tmp_path / "d", "task_index", lambda index: np.where(index == 0, index.max(), index))
    assert "episodes have two instructions: episode 0 has" in error("pairing", last)


def test_a_demonstration_that_stands_there_twice_with_two_instructions_is_named(
    error, pick: Path, tmp_path: Path
) -> None:
    first, third = (Dataset.open(pick).episodes[i].instructions[0] for i in (0, 3))
    copies = {5: 0, 7: 3, 8: 3}  # episode -> the one of which it has the numbers and the pictures

    def again(words: dict[int, str]) -> Path:
        old, turns = episodes(Dataset.open(pick)), iter(range(9))

        def copied(episode: Episode) -> Episode:
            place = next(turns)
            same = old[copies.get(place, place)]
            return replace(same, instruction=words.get(place, same.instruction))

        return plant(pick, tmp_path / str(len(words)), copied)

    told = error("repeated", again({5: "push it", 7: "push it", 8: third.upper() + "!"}))
    assert told == (
        "2 demonstrations stand there several times, with the same states and actions under different instructions "
        f"(episodes 0 and 5, 3 and 7 and 8): episode 0 has {first!r}, episode 5 'push it'; "
        "find out which is right and drop the others"
    )
    assert error("repeated", again({5: f"{first}."}), "ok"), "the same words twice lie to nobody"
    assert error("repeated", pick, "ok") == "no demonstration stands there twice under different instructions"


CHANGES = {
    "its end is cut": lambda values, rng: values[:-1],
    "its actions are noisy": lambda values, rng: values + rng.normal(0, 1e-4, values.shape).astype(np.float32),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_copy_that_is_not_quite_the_same_is_one(how: str, error, pick: Path, tmp_path: Path) -> None:
    old, turns, rng = episodes(Dataset.open(pick)), iter(range(9)), np.random.default_rng(0)

    def copied(episode: Episode) -> Episode:
        if next(turns) != 6:
            return episode
        same, change = old[2], CHANGES[how]
        assert same.state is not None
        action = change(same.action, rng)
        images = {camera: seen[: len(action)] for camera, seen in same.images.items()}
        return replace(same, images=images, state=same.state[: len(action)], action=action, instruction="push it")

    assert "(episodes 2 and 6)" in error("repeated", plant(pick, tmp_path / "d", copied))


def waits(episode: Episode, frames: int) -> Episode:
    """It starts at one place and first waits there."""
    assert episode.state is not None

    def longer(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values[:1].repeat(frames, 0), values])

    images = {camera: longer(seen) for camera, seen in episode.images.items()}
    action = np.concatenate([0 * episode.action[:1].repeat(frames, 0), episode.action])
    return replace(episode, images=images, state=longer(episode.state - episode.state[0]), action=action)


def test_the_same_beginning_is_no_repetition(error, pick: Path, tmp_path: Path) -> None:
    error("repeated", plant(pick, tmp_path / "d", lambda episode: waits(episode, 40)), "ok")


def test_the_same_gripper_is_no_repetition(error, tmp_path: Path) -> None:
    """Without a state, noisy actions are all that there is: what is left of them without noise tells too little."""
    rng = np.random.default_rng(0)
    writer = DatasetWriter(tmp_path / "d", Spec({}, (), ("x", "y", "z", "gripper"), rate=10.0))
    for task in ("one", "two", "three"):
        noise, grip = rng.normal(size=(20, 3)), np.sign(np.arange(20) - 9.5)[:, None]
        writer.append(Episode({}, None, np.hstack([noise, grip]).astype(np.float32), task))
    error("repeated", tmp_path / "d", "ok", simulated=False)


def test_a_missing_instruction_is_an_error(error, pick: Path, tmp_path: Path) -> None:
    none = rewrite(pick, tmp_path / "d", "task_index", lambda index: np.where(index == 0, 99, index))
    assert "no instruction for task_index 99" in error("whole", none)
