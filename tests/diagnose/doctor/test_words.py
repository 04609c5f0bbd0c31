"""Words: one instruction for all, two spellings of one, and those of another episode."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from faults import mispair, plant, rewrite


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


def test_a_missing_instruction_is_an_error(error, pick: Path, tmp_path: Path) -> None:
    none = rewrite(pick, tmp_path / "d", "task_index", lambda index: np.where(index == 0, 99, index))
    assert "no instruction for task_index 99" in error("whole", none)
