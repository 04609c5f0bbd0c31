import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from plait.data import layout, video
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.data.writer import DatasetWriter
from plait.files import locked
from plait.spec import Spec
from plait.types import Inputs, Observation

from .conftest import make_dataset, make_episode, make_spec

FIXTURES = Path(__file__).parents[1] / "fixtures"
LENGTHS = (12, 9, 15)  # what make_lerobot_fixture.py wrote
TASKS = ("pick up the red ball", "put the cube in the bowl", "pick up the red ball")


def levels(episode: int, t: int, camera: str) -> tuple[int, int]:
    """The grey of the left and the right half in the fixtures."""
    ramp, constant = 40 + 5 * t, 30 + 60 * episode
    return (ramp, constant) if camera == "top" else (constant, ramp)


# ------------------------------------------------------------------------------------------- written by lerobot


@pytest.mark.parametrize(("kind", "tolerance"), [("images", 0), ("video", 4)])
def test_a_dataset_of_lerobot_is_read_frame_by_frame(kind: str, tolerance: int):
    dataset = Dataset.open(FIXTURES / f"lerobot_v3_{kind}")
    assert len(dataset) == sum(LENGTHS) and [row.length for row in dataset.episodes] == list(LENGTHS)
    assert dataset.spec == Spec(
        {"top": (64, 64), "side": (64, 64)}, ("x", "y", "z"), ("shoulder", "gripper"), rate=10.0
    )
    assert dataset.state is not None and dataset.verify() == [] and dataset.extras() == []
    for row in dataset.episodes:
        for t in range(row.length):
            frame = row.start + t
            assert dataset.state[frame].tolist() == [t, row.index, 0.5]
            assert dataset.action[frame].tolist() == pytest.approx([t / 10, 1.0 if t > 5 else -1.0])
            assert dataset.tasks[int(dataset.task_index[frame])] == TASKS[row.index]
    order = np.random.default_rng(0).permutation(len(dataset))
    starts = np.array([row.start for row in dataset.episodes])
    for camera in ("top", "side"):
        for frame, image in zip(order, dataset.images(camera, order).int(), strict=True):
            episode = int(np.searchsorted(starts, frame, side="right")) - 1
            left, right = levels(episode, int(frame - starts[episode]), camera)
            assert (image[:, :28] - left).abs().max() <= tolerance and (image[:, 36:] - right).abs().max() <= tolerance


@pytest.mark.parametrize("kind", ["images", "video"])
def test_a_dataset_of_lerobot_gives_batches(kind: str, tmp_path: Path):
    folder = shutil.copytree(FIXTURES / f"lerobot_v3_{kind}", tmp_path / "d")

    def prepare(observation: Observation) -> Inputs:
        words, b = torch.zeros(len(observation), 1, dtype=torch.int64), len(observation)
        return Inputs(observation.images, observation.state, words, torch.ones(b, 1, dtype=torch.bool), {})

    loader = Loader(Dataset.open(folder), prepare, horizon=4, batch_size=8, size=(32, 32))
    batch = loader.batch(0)
    assert batch.inputs.images["side"].shape == (8, 32, 32, 3) and batch.action.shape == (8, 4, 2)


# -------------------------------------------------------------------------------------------- read by lerobot

READ = """
import sys, torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dataset = LeRobotDataset("plait/test", root=sys.argv[1], video_backend="pyav")
items = [dataset[i] for i in range(len(dataset))]
print([int(item["index"]) for item in items] == list(range(len(items))), len(items), dataset.num_episodes)
print(sorted({item["task"] for item in items}))
print([round(255 * float(item["observation.images.front"][0, 4, 2])) for item in items])
"""


@pytest.mark.skipif("PLAIT_LEROBOT_PYTHON" not in os.environ, reason="needs a Python with lerobot 0.6.1")
@pytest.mark.parametrize("finalized", [False, True])
@pytest.mark.parametrize("images", ["png", "video"])
def test_lerobot_reads_a_dataset_of_plait(tmp_path: Path, images: str, finalized: bool):
    spec = make_spec(32)
    folder = make_dataset(tmp_path / "d", spec, images, episodes=3, finalize=finalized)
    command = [os.environ["PLAIT_LEROBOT_PYTHON"], "-c", READ, str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "True 21 3"
    assert lines[1] == str(["pick up the blue cube", "pick up the red ball", "put the ball in the bowl"])
    expected = np.concatenate([make_episode(i, spec).images["front"][:, 4, 2, 0] for i in range(3)])
    assert np.abs(np.array(json.loads(lines[2])) - expected).max() <= (0 if images == "png" else 3)


# ------------------------------------------------------------------------------------------- the shapes it may have


def test_both_forms_of_the_task_table_are_read(tmp_path: Path):
    for name in ("task", "__index_level_0__"):
        pq.write_table(pa.table({"task_index": [1, 0], name: ["b", "a"]}), tmp_path / "tasks.parquet")
        assert layout.read_tasks(tmp_path / "tasks.parquet") == ["a", "b"]


def test_cameras_and_names_of_any_form():
    info = {
        "fps": 30,
        "features": {
            "observation.image": {"dtype": "video", "shape": [3, 96, 128], "names": ["channel", "height", "width"]},
            "observation.images.depth": {"dtype": "video", "shape": [96, 128, 1], "info": {"is_depth_map": True}},
            "observation.state": {"dtype": "float32", "shape": [2], "names": None},
            "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        },
    }
    assert layout.spec_from_info(info) == Spec({"image": (96, 128)}, ("state_0", "state_1"), ("a", "b"), rate=30.0)


def test_a_spec_that_no_longer_fits_the_features_is_not_believed(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec)
    rewrite_json(folder / layout.INFO, lambda info: info["features"]["action"].update(names=["u", "v", "w"]))
    assert Dataset.open(folder).spec.actions == ("u", "v", "w") and Dataset.open(folder).spec.gripper is None


def test_statistics_are_exact(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    stats = dataset.statistics()["observation.state"]
    assert dataset.state is not None
    torch.testing.assert_close(stats["mean"], dataset.state.mean(0))
    torch.testing.assert_close(stats["q01"], torch.quantile(dataset.state, 0.01, dim=0))


# ------------------------------------------------------------------------------------------------------ planted faults


def rewrite_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite(path: Path, column: str, change: Callable[[list], Any]) -> None:
    """Change one column of a parquet file."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    change(values)
    index = table.column_names.index(column)
    pq.write_table(table.set_column(index, column, pa.array(values, table[column].type)), path)


def replace_column(path: Path, column: str, values: list) -> None:
    """The same column with values of another type."""
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), path)


def data(folder: Path) -> Path:
    return folder / layout.DATA_PATH.format(chunk_index=0, file_index=0)


def rows(folder: Path) -> Path:
    return folder / layout.EPISODES_PATH.format(chunk_index=0, file_index=0)


def put(row: int, value: Any) -> Callable[[list], None]:
    return lambda values: values.__setitem__(row, value)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no info": (lambda d: (d / layout.INFO).unlink(), r"info\.json: no such file; a LeRobotDataset v3\.0 has one"),
    "broken info": (lambda d: (d / layout.INFO).write_text("{"), r"info\.json: not valid JSON"),
    "old version": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(codebase_version="v2.1")),
        r"LeRobotDataset v2\.1; plait reads v3\. Convert it with",
    ),
    "future version": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(codebase_version="v4.0")),
        "codebase_version 'v4.0'",
    ),
    "no action": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info["features"].pop("action")),
        "lacks the feature action",
    ),
    "info is a list": (lambda d: (d / layout.INFO).write_text("[]"), r"info\.json: holds \[\], not a table"),
    "features is a list": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(features=["action"])),
        r"info\.json: features is \['action'\]; a table of features is expected",
    ),
    "feature without shape": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info["features"]["observation.state"].pop("shape")),
        r"info\.json: feature observation\.state is .*; a dtype and a shape of whole numbers are expected",
    ),
    "image without width": (
        lambda d: rewrite_json(
            d / layout.INFO, lambda info: info["features"]["observation.images.front"].update(shape=[16])
        ),
        r"feature observation\.images\.front is ",
    ),
    "rate in words": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(fps="ten")),
        r"info\.json: fps is 'ten'; a number above 0 is expected",
    ),
    "count in words": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(total_episodes="four")),
        r"info\.json: total_episodes is 'four'; a whole number is expected",
    ),
    "unknown place": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(data_path="data/{foo}.parquet")),
        r"data_path is 'data/\{foo\}\.parquet'; a text with the places \{chunk_index\}, \{file_index\} is expected",
    ),
    "empty plait.json": (
        lambda d: (d / layout.PLAIT).write_text("{}"),
        r"plait\.json: lacks the tables spec and provenance; restore it from a copy, or delete it",
    ),
    "plait.json is a list": (lambda d: (d / layout.PLAIT).write_text("[]"), r"plait\.json: lacks the tables"),
    "spec of another kind": (
        lambda d: rewrite_json(d / layout.PLAIT, lambda content: content["spec"].update(rate="ten")),
        r"plait\.json\.rate: 'ten' is str",
    ),
    "no column of images": (
        lambda d: pq.write_table(pq.read_table(data(d)).drop_columns(["observation.images.front"]), data(d)),
        r"file-000\.parquet: lacks the column 'observation\.images\.front' that info\.json declares",
    ),
    "actions in words": (
        lambda d: replace_column(data(d), "action", ["open"] * 27),
        r"file-000\.parquet: action is of type string; numbers are expected",
    ),
    "lists of words": (
        lambda d: replace_column(data(d), "action", [["a", "b", "c"]] * 27),
        r"file-000\.parquet: action is of type list<.*string>; numbers are expected",
    ),
    "no data file": (lambda d: data(d).unlink(), r"file-000\.parquet: no such file, although meta/ mentions it"),
    "cut data file": (lambda d: data(d).write_bytes(data(d).read_bytes()[:900]), r"not a readable parquet file"),
    "cut episode file": (lambda d: rows(d).write_bytes(b"PAR1"), r"episodes.*not a readable parquet file"),
    "episodes missing": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(total_episodes=9)),
        "info.json counts 9 episodes, meta/episodes has 4 episodes",
    ),
    "unequal length": (
        lambda d: rewrite(rows(d), "length", put(1, 6)),
        "episode 1 has 5 frames here and length 6 in meta/episodes",
    ),
    "instruction missing": (
        lambda d: rewrite(data(d), "task_index", put(8, 7)),
        "no instruction for task_index 7, first used in episode 1, frame 1; add it to meta/tasks.parquet",
    ),
    "instruction empty": (
        lambda d: rewrite(d / layout.TASKS, "task", put(0, "")),
        "no instruction for task_index 0, first used in episode 0, frame 0",
    ),
    "image missing": (
        lambda d: rewrite(data(d), "observation.images.wrist", put(3, {"bytes": None, "path": None})),
        r"observation\.images\.wrist is missing for 1 frames",
    ),
    "state missing": (
        lambda d: rewrite(data(d), "observation.state", put(3, None)),
        r"observation\.state is missing at row 3; every frame needs one",
    ),
    "state entry missing": (
        lambda d: rewrite(data(d), "observation.state", put(4, [1.0, None, 2.0])),
        r"observation\.state is missing at row 4",
    ),
    "action missing": (lambda d: rewrite(data(d), "action", put(0, None)), "action is missing at row 0"),
    "action not a number": (
        lambda d: rewrite(data(d), "action", put(9, [0.0, float("nan"), 0.0])),
        "action is not finite in 1 frames, first in episode 1, frame 2",
    ),
    "frame missing": (
        lambda d: rewrite(data(d), "frame_index", put(2, 3)),
        "frame_index is 3 in episode 0, frame 2; a frame is missing or twice there",
    ),
    "wrong rate": (
        lambda d: rewrite_json(d / layout.INFO, lambda info: info.update(fps=20)),
        r"timestamp does not match fps 20: 0\.1000 s, expected 0\.0500 s in episode 0, frame 1",
    ),
    "wrong time": (
        lambda d: rewrite(data(d), "timestamp", put(9, 0.9)),
        r"timestamp does not match fps 10: 0\.9000 s, expected 0\.2000 s in episode 1, frame 2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_when_the_dataset_is_opened(tmp_path: Path, spec: Spec, fault: str):
    folder = make_dataset(tmp_path / "d", spec)
    plant, message = FAULTS[fault]
    plant(folder)
    with pytest.raises(ValueError, match=message):
        Dataset.open(folder)


def test_no_folder_and_no_episode(tmp_path: Path, spec: Spec):
    with pytest.raises(ValueError, match="no such folder"):
        Dataset.open(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: is a file; give the folder of"):
        Dataset.open(tmp_path / "file")
    DatasetWriter(tmp_path / "d", spec)
    with pytest.raises(ValueError, match="no finished episode yet"):
        Dataset.open(tmp_path / "d")


def test_a_recording_that_is_under_way_is_told(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec)
    with (
        locked(folder),
        pytest.raises(ValueError, match="d: a recording is under way here; wait for its end; plait rec"),
    ):
        Dataset.open(folder)
    assert len(Dataset.open(folder)) == 27


def test_a_file_that_is_gone_is_told_when_its_images_are_read(tmp_path: Path, spec: Spec):
    dataset = Dataset.open(make_dataset(tmp_path / "d", spec))
    data(dataset.path).unlink()
    with pytest.raises(ValueError, match=r"file-000\.parquet: cannot be read any more .* is it being recorded anew"):
        dataset.images("front", [0])


def test_a_video_shorter_than_its_episode_is_named(tmp_path: Path):
    spec = make_spec(32)
    folder = make_dataset(tmp_path / "d", spec, "video")
    file = folder / layout.VIDEO_PATH.format(video_key="observation.images.wrist", chunk_index=0, file_index=0)
    file.write_bytes(video.encode(make_episode(0, spec).images["wrist"], 10.0))
    with pytest.raises(ValueError, match=r"file-000\.mp4: 0\.70 s of video, but camera 'wrist' of episode 1 needs it"):
        Dataset.open(folder)
    file.unlink()
    with pytest.raises(ValueError, match="no such file"):
        Dataset.open(folder)


def test_verify_finds_what_only_decoding_shows(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec)
    broken = {"bytes": b"\x89PNG and nothing more", "path": None}
    rewrite(data(folder), "observation.images.front", put(5, broken))
    dataset = Dataset.open(folder)
    assert dataset.images("front", [4]).shape == (1, 16, 16, 3)
    (problem,) = dataset.verify()
    assert "camera 'front'" in problem and "is not a readable image at row 5" in problem
    with pytest.raises(ValueError, match="not a readable image at row 5"):
        dataset.images("front", [5])


def test_an_image_of_another_size_is_named(tmp_path: Path, spec: Spec):
    folder = make_dataset(tmp_path / "d", spec)
    for change in ("features", "spec"):
        file = folder / (layout.INFO if change == "features" else layout.PLAIT)
        content = file.read_text()
        file.write_text(content.replace("16", "18"))
    with pytest.raises(ValueError, match=r"observation\.images\.front is 16x16 pixels at row 0; expected 18x18"):
        Dataset.open(folder).images("front", [0])
