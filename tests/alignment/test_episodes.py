"""Pairs from demonstrations that lerobot wrote: each picture tells its frame, its episode and its camera."""

from pathlib import Path

import numpy as np
import pytest
import torch

from faults import rewrite
from plait.alignment.episodes import BLOCK, Frames, pick_camera, read_episodes
from plait.data.lerobot import Dataset
from plait.record.recorder import record
from plait.train.align import divided

FIXTURES = Path(__file__).parents[1] / "fixtures"
RED, CUBE = "pick up the red ball", "put the cube in the bowl"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Episodes of 12, 9 and 15 frames; camera ``top`` shows 40 + 5 t on the left, 30 + 60 e on the right."""
    return Dataset.open(FIXTURES / "lerobot_v3_images")


def shown(pairs: Frames) -> list[tuple[int, int]]:
    """Of each picture of ``top``: its frame, and its episode."""
    return [(round((i[0, 0, 0].item() - 40) / 5), round((i[0, -1, 0].item() - 30) / 60)) for i in pairs.images]


@pytest.mark.parametrize("storage", ["images", "video"])
def test_frames_are_spaced_from_the_first_to_the_last_and_told_by_their_instruction(storage: str) -> None:
    pairs = read_episodes(Dataset.open(FIXTURES / f"lerobot_v3_{storage}"), "top", 3, 32)
    assert pairs.images.shape == (9, 32, 32, 3) and pairs.images.dtype == torch.uint8
    assert shown(pairs) == [(0, 0), (6, 0), (11, 0), (0, 1), (4, 1), (8, 1), (0, 2), (7, 2), (14, 2)]
    assert pairs.texts == [[RED]] * 3 + [[CUBE]] * 3 + [[RED]] * 3
    assert pairs.episodes == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_one_frame_is_the_first_and_a_short_episode_gives_all_that_it_has(dataset: Dataset) -> None:
    assert shown(read_episodes(dataset, "top", 1, 64)) == [(0, 0), (0, 1), (0, 2)]
    pairs = read_episodes(dataset, "top", 13, 64)
    assert np.bincount(pairs.episodes).tolist() == [12, 9, 13]
    assert shown(pairs)[12:21] == [(t, 1) for t in range(9)]


def test_pictures_are_those_of_the_camera_however_many_there_are(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_episodes(dataset, "side", 99, 64)
    assert torch.equal(whole.images, dataset.images("side", range(36)))
    monkeypatch.setattr("plait.alignment.episodes.BLOCK", 5)
    assert BLOCK > 36 and torch.equal(read_episodes(dataset, "side", 99, 64).images, whole.images)


def test_an_instruction_that_changes_within_an_episode_tells_its_own_frames(tmp_path: Path) -> None:
    changed = rewrite(FIXTURES / "lerobot_v3_images", tmp_path / "d", "task_index", lambda index: np.arange(36) % 2)
    assert read_episodes(Dataset.open(changed), "top", 99, 8).texts == [[(RED, CUBE)[t % 2]] for t in range(36)]


def test_episodes_are_held_out_whole(dataset: Dataset) -> None:
    learned, kept = divided(read_episodes(dataset, "top", 5, 32), 0.34)
    assert isinstance(learned, Frames) and isinstance(kept, Frames)
    assert len(kept) == 5 and len(set(kept.episodes)) == 1 and len(learned) == 10
    assert not set(kept.episodes) & set(learned.episodes)
    assert [episode for _, episode in shown(kept)] == kept.episodes, "each with its own pictures"


def test_the_first_camera_is_taken_when_none_is_named(dataset: Dataset) -> None:
    assert (pick_camera(dataset), pick_camera(dataset, "side")) == ("top", "side")


def test_what_cannot_be_paired_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lerobot_v3_images: no camera 'sid'; choose one of .* Did you mean 'side'\?"):
        pick_camera(dataset, "sid")
    with pytest.raises(ValueError, match=f"the instruction is always '{RED}', so that there is nothing to tell apart"):
        read_episodes(dataset.first(1), "top", 8, 32)
    with pytest.raises(ValueError, match="frames: 0 is too small; at least 1"):
        read_episodes(dataset, "top", 0, 32)
    record("tabletop", tmp_path / "blind", 2, {"cameras": []}, workers=1)
    with pytest.raises(ValueError, match="blind: it has no camera, and alignment needs pictures"):
        pick_camera(Dataset.open(tmp_path / "blind"))
