import errno
import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plait.data import layout
from plait.data.episode import EncodedEpisode, encode, storage
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.spec import Spec

from .conftest import (
    LENGTHS,
    SENTENCES,
    Killed,
    contents,
    kill_before_rename,
    make_dataset,
    make_episode,
    make_spec,
)


def check(folder: Path, spec: Spec, episodes: int, tolerance: float = 0) -> None:
    """The dataset holds exactly the first ``episodes`` episodes, value by value."""
    dataset = Dataset.open(folder)
    assert dataset.spec == spec
    assert [row.length for row in dataset.episodes] == list(LENGTHS[:episodes])
    assert [extra["seed"] for extra in dataset.extras()] == [1000 + i for i in range(episodes)]
    for index, row in enumerate(dataset.episodes):
        episode, frames = make_episode(index, spec), np.arange(row.start, row.start + row.length)
        np.testing.assert_array_equal(dataset.action[frames], episode.action)
        if episode.state is not None and dataset.state is not None:
            np.testing.assert_array_equal(dataset.state[frames], episode.state)
        assert {dataset.tasks[i] for i in dataset.task_index[frames]} == {SENTENCES[index]} == set(row.instructions)
        for camera, images in episode.images.items():
            error = np.abs(dataset.images(camera, frames).numpy().astype(int) - images)
            assert np.median(error) <= tolerance and error.mean() <= tolerance


@pytest.mark.parametrize("finalized", [False, True])
@pytest.mark.parametrize("images", ["png", "video"])
def test_what_is_written_is_read(tmp_path: Path, images: str, finalized: bool):
    spec = make_spec(32)
    folder = make_dataset(tmp_path / "d", spec, images, finalize=finalized)
    check(folder, spec, 4, tolerance=0 if images == "png" else 3)
    assert Dataset.open(folder).verify() == []
    assert len(list((folder / "data").rglob("*.parquet"))) == (1 if finalized else 4)
    assert len(list(folder.rglob("*.mp4"))) == (0 if images == "png" else 2 if finalized else 8)


def test_auto_takes_png_up_to_96_pixels():
    spec = replace(make_spec(), cameras={"a": (96, 96), "b": (64, 98)})
    assert storage(spec, "auto") == {"a": "image", "b": "video"}
    odd = replace(spec, cameras={"a": (101, 128), "b": (128, 128), "c": (128, 101)})
    assert storage(odd, "auto") == {"a": "image", "b": "video", "c": "image"}, "no video holds an odd size"
    with pytest.raises(ValueError, match=r"camera 'a' has 101 x 128 pixels, .* must be even; say --images png"):
        storage(odd, "video")
    with pytest.raises(ValueError, match="images='jpg'; choose one of"):
        storage(spec, "jpg")


def test_no_state_and_one_action(tmp_path: Path):
    spec = replace(make_spec(state=False), actions=("gripper",), action_low=(-1.0,), action_high=(1.0,))
    writer = DatasetWriter(tmp_path / "d", spec)
    episode = make_episode(0, make_spec(state=False))
    writer.append(replace(episode, action=episode.action[:, 2:]))
    writer.finalize()
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.state is None and dataset.action.shape == (7, 1) and dataset.spec == spec


def test_a_finished_dataset_can_be_extended(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec, episodes=2)
    writer = DatasetWriter(folder, spec)
    for index in (2, 3):
        writer.append(make_episode(index, spec))
        check(folder, spec, index + 1)
    writer.finalize()
    check(folder, spec, 4)
    assert contents(folder) == contents(make_dataset(tmp_path / "at once", spec))


def test_files_are_split_at_the_size_limit(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("plait.data.writer.DATA_MB", 0.012)
    folder = make_dataset(tmp_path / "d", spec)
    assert len(list((folder / "data").rglob("*.parquet"))) > 1
    check(folder, spec, 4)


def test_statistics_are_there_for_lerobot(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec)
    stats = json.loads((folder / layout.STATS).read_text())
    action = np.concatenate([make_episode(i, spec).action for i in range(4)])
    np.testing.assert_allclose(stats["action"]["mean"], action.mean(0), rtol=1e-6)
    np.testing.assert_allclose(Dataset.open(folder).statistics()["action"]["q99"], np.quantile(action, 0.99, axis=0))
    assert np.shape(stats["observation.images.front"]["std"]) == (3, 1, 1) and stats["index"]["count"] == [27]


@pytest.mark.parametrize("images", ["png", "video"])
def test_episodes_that_came_through_the_pipe_are_the_same_on_disk(tmp_path: Path, images: str):
    spec = make_spec()
    writer = DatasetWriter(tmp_path / "pipe", spec, images)
    for index in range(4):
        encoded = encode(make_episode(index, spec), spec, storage(spec, images))
        writer.append(EncodedEpisode.from_bytes(encoded.to_bytes()))
    writer.finalize()
    assert contents(tmp_path / "pipe") == contents(make_dataset(tmp_path / "direct", spec, images))


# ------------------------------------------------------------------------------------------------ killed, disk full


@pytest.mark.parametrize("images", ["png", "video"])
def test_a_kill_between_any_two_renames_loses_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str
):
    spec = make_spec()
    expected = contents(make_dataset(tmp_path / "expected", spec, images, episodes=3))
    for kill in range(60):
        folder, finished = tmp_path / f"{kill}", -1
        try:
            with kill_before_rename(monkeypatch, kill):
                writer = DatasetWriter(folder, spec, images)
                for index in range(3):
                    finished = writer.episodes
                    writer.append(make_episode(index, spec))
                finished = 3
                writer.finalize()
                break
        except Killed:
            pass
        if finished > 0:
            check(folder, spec, finished, tolerance=0 if images == "png" else 4)
        writer = DatasetWriter(folder, spec, images)
        assert writer.episodes == max(finished, 0)
        for index in range(writer.episodes, 3):
            writer.append(make_episode(index, spec))
        writer.finalize()
        assert contents(folder) == expected
    assert kill > 20, "the recording must take more renames than the test has killed"


def test_a_full_disk_loses_nothing(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch):
    expected = contents(make_dataset(tmp_path / "expected", spec))
    folder = make_dataset(tmp_path / "d", spec, episodes=2, finalize=False)
    writer = DatasetWriter(folder, spec)

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            OSError, match=r"\.parquet: the disk is full; 2 finished episodes are safe\. Free some space"
        ):
            writer.append(make_episode(2, spec))
    check(folder, spec, 2)
    writer.append(make_episode(2, spec))
    writer.append(make_episode(3, spec))
    writer.finalize()
    assert contents(folder) == expected


def test_a_full_disk_while_merging_leaves_the_dataset_as_it_was(tmp_path: Path):
    spec = make_spec(32)
    folder = make_dataset(tmp_path / "d", spec, episodes=4, finalize=False)
    writer, before = DatasetWriter(folder, spec), contents(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # bytes in a file: single episodes are smaller
    try:
        with pytest.raises(OSError, match="the disk is full; 4 finished episodes are safe"):
            writer.finalize()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = contents(folder)
    assert {name: after[name] for name in before if name != layout.STATS} == {
        name: content for name, content in before.items() if name != layout.STATS
    }
    writer.finalize()
    check(folder, spec, 4)


# --------------------------------------------------------------------------------------------------------- refusals


def test_another_embodiment_is_refused(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec, episodes=1)
    with pytest.raises(ValueError, match=r"gripper: the dataset has 'positive_closes', the new recording has"):
        DatasetWriter(folder, replace(spec, gripper="positive_opens"))
    with pytest.raises(ValueError, match="camera 'front': image in the dataset, video now"):
        DatasetWriter(folder, spec, "video")
    with pytest.raises(ValueError, match="another size"):
        DatasetWriter(folder, spec.resized(8))


def test_foreign_folders_are_refused(tmp_path: Path, spec: Spec):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"holds 'thesis\.tex' and no dataset"):
        DatasetWriter(tmp_path, spec)
    lerobot = Path(__file__).parents[1] / "fixtures/lerobot_v3_images"
    with pytest.raises(ValueError, match="a dataset that plait did not write"):
        DatasetWriter(lerobot, spec)


@pytest.mark.parametrize("damage", ["", "{}\n{}\n{}\n", "{}\n{}\n[1]\n{}\n", '{}\n{}\n{}\n{"scene"'])
def test_damaged_lines_of_episodes_are_named(tmp_path: Path, spec: Spec, damage: str):
    folder = make_dataset(tmp_path / "d", spec)
    (folder / layout.PLAIT_EPISODES).write_text(damage)
    with pytest.raises(ValueError, match=r"plait_episodes\.jsonl: does not hold a line .* each of 4 episodes; restore"):
        DatasetWriter(folder, spec)
    assert len(Dataset.open(folder)) == sum(LENGTHS), "training does without them"


def test_a_damaged_file_is_named_when_it_is_merged(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec, finalize=False, episodes=2)
    file = folder / layout.DATA_PATH.format(chunk_index=0, file_index=1)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"file-001\.parquet: not a readable parquet file .* restore it from a copy"):
        DatasetWriter(folder, spec).finalize()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"front": np.zeros((7, 16, 16, 3), np.uint8)}}, "camera 'wrist' is missing"),
        ({"state": None}, r"state: shape None; expected \[7, 3\]"),
        ({"action": np.zeros((6, 3))}, r"camera 'front': uint8 \[7, 16, 16, 3\]; expected uint8 \[6, 16, 16, 3\]"),
        ({"action": np.full((7, 3), np.nan)}, "action: not finite at step 0"),
        ({"instruction": " "}, "without an instruction"),
        ({"action": np.zeros((0, 3))}, "without a single step"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(tmp_path: Path, spec: Spec, change: dict, message: str):
    writer = DatasetWriter(tmp_path / "d", spec)
    with pytest.raises(ValueError, match=message):
        writer.append(replace(make_episode(0, spec), **change))
    assert writer.episodes == 0
