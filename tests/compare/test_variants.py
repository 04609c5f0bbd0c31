from pathlib import Path

import numpy as np
import pytest
import torch

from plait.compare.variants import mispaired, without_cameras, without_words
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.encoders.tokenizer import Tokenizer
from plait.policy import Policy, PolicyConfig
from plait.spec import INSTRUCTION

FIXTURE = Path(__file__).parents[1] / "fixtures/lerobot_v3_images"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset.open(FIXTURE)


def policy_for(data: Dataset) -> Policy:
    return PolicyConfig(image_size=32).build(data.spec, Tokenizer.build(data.tasks), data.statistics())


def first_batch(data: Dataset):
    return Loader(data, policy_for(data).prepare, 4, 4, (32, 32), validation=0.0, cache=False).batch(0)


def instructions(data: Dataset) -> list[str]:
    return [data.tasks[data.task_index[row.start]] for row in data.episodes]


def test_half_of_the_episodes_get_words_of_another(data: Dataset) -> None:
    before, changed = instructions(data), mispaired(data, 0.5, 0)
    after = instructions(changed)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == round(0.5 * len(before))
    assert set(after) <= set(before)
    for row in changed.episodes:
        assert len(set(changed.task_index[row.start : row.start + row.length].tolist())) == 1
    assert instructions(data) == before and torch.equal(changed.action, data.action)
    assert instructions(mispaired(data, 0.5, 0)) == after
    assert all(a != b for a, b in zip(before, instructions(mispaired(data, 1.0, 3)), strict=True))
    assert instructions(mispaired(data, 0.0, 0)) == before


def test_one_sentence_alone_cannot_be_exchanged(data: Dataset) -> None:
    with pytest.raises(ValueError, match="every episode has the same instruction"):
        mispaired(data.first(1), 1.0, 0)


def test_without_words_nothing_is_said_and_the_size_stays(data: Dataset) -> None:
    silent = without_words(data)
    assert not first_batch(silent).inputs.present[INSTRUCTION].any()
    assert first_batch(data).inputs.present[INSTRUCTION].all()
    sizes = [sum(weight.numel() for weight in policy_for(each).parameters()) for each in (data, silent)]
    assert sizes[0] == sizes[1]


def test_without_cameras_the_policy_sees_nothing(data: Dataset) -> None:
    batch = first_batch(without_cameras(data))
    assert batch.inputs.images == {} and not [name for name in batch.inputs.present if name.startswith("images")]


def test_the_first_episodes_are_a_dataset_with_the_same_images(data: Dataset) -> None:
    beginning = data.first(2)
    n = sum(row.length for row in data.episodes[:2])
    assert len(beginning) == n < len(data) and len(beginning.episodes) == 2
    assert torch.equal(beginning.action, data.action[:n]) and torch.equal(beginning.state, data.state[:n])
    camera = next(iter(data.spec.cameras))
    assert torch.equal(beginning.images(camera, [n - 1]), data.images(camera, [n - 1]))
    assert beginning.content()["episodes"] == 2
    np.testing.assert_allclose(beginning.statistics()["action"]["max"], data.action[:n].max(0).values)
    with pytest.raises(ValueError, match="of them cannot be taken"):
        data.first(len(data.episodes) + 1)


def test_the_first_episodes_know_their_own_words_alone(data: Dataset) -> None:
    """Else a training would depend on what is recorded afterwards, and could not go on."""
    told = [data.tasks[task] for task in data.task_index.tolist()]
    for episodes in range(1, len(data.episodes) + 1):
        beginning = data.first(episodes)
        assert [beginning.tasks[task] for task in beginning.task_index.tolist()] == told[: len(beginning)]
        assert set(beginning.tasks) == set(told[: len(beginning)])
    assert len(data.first(1).tasks) < len(data.tasks)
