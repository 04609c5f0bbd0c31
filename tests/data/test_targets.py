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


def test_the_target_is_the_position_at_the_next_change(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    targets = keyframe_targets(dataset)
    assert targets is not None
    position, known = targets
    for row in dataset.episodes:  # each closes at step 3, where the state is (3, episode, 1/2)
        steps = torch.arange(row.length)
        assert known[row.start : row.start + row.length, 0].tolist() == (steps <= 3).tolist()
        assert not known[row.start : row.start + row.length, 1].any()
        assert position[row.start + 2, 0].tolist() == [3.0, row.index, 0.5]


def test_and_at_the_one_after_it(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    gripper, first = list(spec.actions).index("gripper"), dataset.episodes[0]
    dataset.action[
        first.start + first.length - 2 : first.start + first.length, gripper
    ] = -1.0  # it lets go near the end
    targets = keyframe_targets(dataset)
    assert targets is not None
    position, known = (target[first.start : first.start + first.length] for target in targets)
    last = first.length - 2
    assert known[:, 1].tolist() == [step <= 3 for step in range(first.length)]
    assert position[:4, :, 0].tolist() == [[3.0, last]] * 4
    assert known[4:, 0].tolist() == [step <= last for step in range(4, first.length)]
    assert (position[4 : last + 1, 0, 0] == last).all()


def test_an_episode_without_a_change_aims_at_its_end(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    first = dataset.episodes[0]
    dataset.action[first.start : first.start + first.length, list(spec.actions).index("gripper")] = 1.0
    targets = keyframe_targets(dataset)
    assert targets is not None and targets[1][: first.length, 0].all() and not targets[1][: first.length, 1].any()
    assert targets[0][: first.length, 0].tolist() == [[first.length - 1.0, 0.0, 0.5]] * first.length


@pytest.mark.parametrize("change", [{"actions": ("dx", "dy", "speed")}, {"state": ("a", "b", "c")}])
def test_there_is_none_where_the_spec_does_not_say(tmp_path: Path, spec: Spec, change: dict):
    assert keyframe_targets(Dataset.open(make_dataset(tmp_path / "d", replace(spec, **change)))) is None
