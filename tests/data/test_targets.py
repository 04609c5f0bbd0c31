from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plait.data.lerobot import Dataset
from plait.data.targets import closings, grasp_targets
from plait.spec import Spec

from .conftest import make_dataset


def test_closings_are_changes_from_open_to_closed_within_an_episode():
    command = torch.tensor([-1.0, 1, 1, -1, 1, 1, -1, 0.9])
    episode = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    assert closings(command, episode).tolist() == [False, True, False, False, True, False, False, True]
    assert closings((command + 1) / 2, episode).tolist() == closings(command, episode).tolist()


def test_the_target_is_the_position_at_the_next_closing(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    targets = grasp_targets(dataset)
    assert targets is not None
    position, known = targets
    for row in dataset.episodes:  # each closes at step 3, where the state is (3, episode, 1/2)
        steps = torch.arange(row.length)
        assert known[row.start : row.start + row.length].tolist() == (steps <= 3).tolist()
        assert position[row.start + 2].tolist() == [3.0, row.index, 0.5]
        assert position[row.start + 4].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [{"gripper": None}, {"gripper": "none"}, {"actions": ("dx", "dy", "speed")}, {"state": ("a", "b", "c")}],
)
def test_there_is_none_where_the_spec_does_not_say(tmp_path: Path, spec: Spec, change: dict):
    assert grasp_targets(Dataset.open(make_dataset(tmp_path / "d", replace(spec, **change)))) is None


def test_the_sign_of_the_gripper_counts(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", replace(spec, gripper="positive_opens")))
    targets = grasp_targets(dataset)
    assert targets is not None and not targets[1].any()  # read this way it only ever opens
