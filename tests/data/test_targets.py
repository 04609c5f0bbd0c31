from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plait.data.lerobot import Dataset
from plait.data.targets import changes, keyframe_targets
from plait.spec import Spec

from .conftest import make_dataset


def test_changes_are_openings_and_closings_within_an_episode():
    command = torch.tensor([-1.0, 1, 1, -1, 1, 1, -1, 0.9])
    episode = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    assert changes(command, episode).tolist() == [False, True, False, True, True, False, True, True]
    assert changes((command + 1) / 2, episode).tolist() == changes(command, episode).tolist()
    assert changes(-command, episode).tolist() == changes(command, episode).tolist(), "the sign does not matter"


def test_the_target_is_the_position_at_the_next_change_or_at_the_end(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    targets = keyframe_targets(dataset)
    assert targets is not None
    for row in dataset.episodes:  # each closes at step 3, where the state is (3, episode, 1/2)
        expected = [[3.0 if step <= 3 else row.length - 1.0, row.index, 0.5] for step in range(row.length)]
        assert targets[row.start : row.start + row.length].tolist() == expected


@pytest.mark.parametrize("change", [{"actions": ("dx", "dy", "speed")}, {"state": ("a", "b", "c")}])
def test_there_is_none_where_the_spec_does_not_say(tmp_path: Path, spec: Spec, change: dict):
    assert keyframe_targets(Dataset.open(make_dataset(tmp_path / "d", replace(spec, **change)))) is None
