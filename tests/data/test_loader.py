from pathlib import Path

import numpy as np
import pytest
import torch

from plait.data.augment import Augment
from plait.data.lerobot import Dataset
from plait.data.loader import Loader, held_out
from plait.data.world import World
from plait.spec import Spec
from plait.types import Batch, Inputs, Observation

from .conftest import LENGTHS, make_dataset, make_spec


def prepare(observation: Observation) -> Inputs:
    """Words become their first letters; a missing state becomes zeros."""
    b = len(observation)
    state = torch.zeros(b, 0) if observation.state is None else observation.state
    words = torch.tensor([[ord(text[0])] for text in observation.instruction])
    return Inputs(observation.images, state, words, torch.ones(b, 1, dtype=torch.bool), {})


@pytest.fixture
def dataset(tmp_path: Path, spec: Spec) -> Dataset:
    return Dataset.open(make_dataset(tmp_path / "d", spec))


def loader(dataset: Dataset, **changes) -> Loader:
    return Loader(dataset, prepare, **{"horizon": 4, "batch_size": 5, "size": (16, 16), "validation": 0.25, **changes})


def equal(a: Batch, b: Batch) -> bool:
    images = all(torch.equal(a.inputs.images[camera], b.inputs.images[camera]) for camera in a.inputs.images)
    return images and torch.equal(a.action, b.action) and torch.equal(a.inputs.state, b.inputs.state)


def test_every_training_frame_comes_once_per_epoch(dataset: Dataset):
    source = loader(dataset)
    n = len(source.frames)
    seen = np.concatenate([source.indices(step) for step in range(2 * n)])
    for epoch in range(10):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == source.frames.tolist()
    assert seen[:n].tolist() != seen[n : 2 * n].tolist()


def test_a_batch_is_a_function_of_seed_and_step(dataset: Dataset):
    one, other = loader(dataset, augment=Augment()), loader(dataset, augment=Augment())
    expected = [one.batch(step) for step in range(9)]
    assert all(equal(other.batch(step), expected[step]) for step in (7, 0, 7, 3))
    assert not equal(loader(dataset, augment=Augment(), seed=1).batch(0), expected[0])
    assert all(equal(a, b) for a, b in zip(other.stream(2, 9), expected[2:], strict=True))


def test_processes_share_every_batch_row_by_row(dataset: Dataset):
    changes = {"batch_size": 6, "augment": Augment(shift=2), "moments": 2}
    whole, parts = loader(dataset, **changes), [loader(dataset, world=World(rank, 2), **changes) for rank in range(2)]
    for step in range(6):
        batch, shared = whole.batch(step), [part.batch(step) for part in parts]
        for camera, images in batch.inputs.images.items():
            assert torch.equal(torch.cat([part.inputs.images[camera] for part in shared]), images)
        assert torch.equal(torch.cat([part.action for part in shared]), batch.action)
        assert batch.action_valid is None and batch.keyframe_valid is None and batch.keyframe_mask is not None
        for part in shared:
            assert torch.equal(2 * part.action_valid, batch.action_mask.sum(0))
            assert torch.equal(2 * part.keyframe_valid, batch.keyframe_mask.sum(0))


def test_processes_validate_every_frame_once(dataset: Dataset):
    parts = [list(loader(dataset, world=World(rank, 3), batch_size=3).validation()) for rank in range(3)]
    states = [state for part in parts for batch in part for state in batch.inputs.state[:, 0].tolist()]
    assert sorted(states) == list(range(LENGTHS[loader(dataset).held_out[0]]))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_rows_belong_together(dataset: Dataset):
    source = loader(dataset)
    for step in range(6):
        batch, frames = source.batch(step), source.indices(step)
        for row, frame in enumerate(frames):
            episode = dataset.episodes[int(dataset.episode_index[frame])]
            t = int(frame - episode.start)
            assert batch.inputs.state[row].tolist() == [t, episode.index, 0.5]
            assert chr(int(batch.inputs.words[row, 0])) == episode.instructions[0][0]
            assert batch.inputs.images["front"][row, 0, 0].tolist() == [20 + 10 * t] * 3
            assert batch.inputs.images["wrist"][row, 0, 15].tolist() == [45 + 40 * episode.index] * 3
            steps = torch.arange(t, t + 4)
            assert batch.action_mask[row].tolist() == (steps < episode.length).tolist()
            expected = steps.clamp(max=episode.length - 1) / 10
            torch.testing.assert_close(batch.action[row, :, 0], expected.float())
            assert batch.keyframe is not None and batch.keyframe_mask is not None  # it closes at step 3
            assert batch.keyframe_mask[row].tolist() == [t <= 3, False]
            assert t > 3 or batch.keyframe[row, 0].tolist() == [3, episode.index, 0.5]


def test_a_window_holds_frames_a_stride_apart_that_end_at_the_sample(dataset: Dataset):
    source, single = loader(dataset, moments=3, stride=2), loader(dataset)
    for step in range(6):
        batch, alone, frames = source.batch(step), single.batch(step), source.indices(step)
        assert frames.tolist() == single.indices(step).tolist()
        assert batch.inputs.window is not None and alone.inputs.window is None
        for row, frame in enumerate(frames):
            episode = dataset.episodes[int(dataset.episode_index[frame])]
            t = int(frame - episode.start)
            there = [t - 4 >= 0, t - 2 >= 0, True]
            assert batch.inputs.window[row].tolist() == there
            for moment, (back, valid) in enumerate(zip((4, 2, 0), there, strict=True)):
                place, when = (
                    3 * row + moment,
                    t - back if valid else 0,
                )  # never a neighbour's frame
                assert batch.inputs.state[place].tolist() == [when, episode.index, 0.5]
                assert batch.inputs.images["front"][place, 0, 0].tolist() == [20 + 10 * when] * 3
                assert chr(int(batch.inputs.words[place, 0])) == episode.instructions[0][0]
        assert torch.equal(batch.action, alone.action) and torch.equal(batch.action_mask, alone.action_mask)
        assert batch.keyframe is not None and alone.keyframe is not None and torch.equal(batch.keyframe, alone.keyframe)


def test_every_phase_of_a_window_comes_as_often_as_it_falls(dataset: Dataset):
    """A frame is a sample whether or not its distance from the start is a multiple of the stride."""
    source = loader(dataset, moments=2, stride=4)
    seen = np.concatenate([source.indices(step) for step in range(len(source.frames))])
    assert sorted(set(seen.tolist())) == source.frames.tolist()


def test_the_cache_changes_no_batch(dataset: Dataset):
    cached, plain = (loader(dataset, augment=Augment(), size=(8, 8), cache=use) for use in (True, False))
    assert all(equal(cached.batch(step), plain.batch(step)) for step in range(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_that_do_not_fit_on_a_gpu_change_no_batch(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    there, device = loader(dataset, augment=Augment()), torch.device("cuda")
    assert there.reside(device)
    monkeypatch.setattr("plait.data.cache.Images.reside", lambda self, device: False)
    follows = loader(dataset, augment=Augment())
    assert not follows.reside(device)
    for resident, pinned in zip(there.stream(0, 9), follows.stream(0, 9), strict=True):
        assert pinned.inputs.images["front"].is_cuda and pinned.inputs.words.is_cuda and equal(resident, pinned)


def test_held_out_episodes_are_whole_and_never_trained_on(dataset: Dataset):
    source = loader(dataset, augment=Augment())
    batches = list(source.validation())
    assert source.held_out.tolist() == held_out(4, 0.25).tolist() and len(source.held_out) == 1
    assert sum(map(len, batches)) == LENGTHS[source.held_out[0]]
    states = torch.cat([batch.inputs.state for batch in batches])
    assert states[:, 0].tolist() == list(range(len(states))) and set(states[:, 1].tolist()) == {source.held_out[0]}
    assert not set(source.frames) & set(source.validation_frames)
    assert all(equal(a, b) for a, b in zip(source.validation(), batches, strict=True))


def test_how_many_are_held_out():
    assert [len(held_out(n, share)) for n, share in ((1, 0.5), (2, 0.01), (40, 0.1), (40, 0.0))] == [0, 1, 4, 0]
    with pytest.raises(ValueError, match=r"validation share 1\.5"):
        held_out(4, 1.5)


def test_images_differ_only_by_augmentation(dataset: Dataset):
    plain, augmented = loader(dataset).batch(3), loader(dataset, augment=Augment(shift=2)).batch(3)
    assert torch.equal(plain.action, augmented.action)
    assert not torch.equal(plain.inputs.images["front"], augmented.inputs.images["front"])


def test_a_stream_passes_errors_on_and_can_be_abandoned(dataset: Dataset):
    source = loader(dataset)
    for _ in source.stream(0, 100):
        break
    bad = Loader(dataset, lambda observation: 1 / 0, 4, 5, (16, 16))  # pyright: ignore
    with pytest.raises(ZeroDivisionError):
        next(bad.stream(0, 3))


def test_without_state(tmp_path: Path):
    dataset = Dataset.open(make_dataset(tmp_path / "d", make_spec(state=False)))
    batch = loader(dataset).batch(0)
    assert batch.inputs.state.shape == (5, 0) and batch.keyframe is None


def test_wrong_arguments(dataset: Dataset):
    with pytest.raises(ValueError, match="each must be at least 1"):
        loader(dataset, batch_size=0)
    with pytest.raises(ValueError, match="moments 0, stride 1: each must be at least 1"):
        loader(dataset, moments=0)
