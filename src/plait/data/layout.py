"""The layout of a LeRobotDataset v3.0 on disk, and its files in JSON and parquet, written whole or not at all.

Source: the format as read and written by the package ``lerobot`` 0.6.1.
"""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plait.data.keys import ACTION, IMAGE_PREFIX, STATE
from plait.files import write_whole
from plait.spec import Spec

VERSION = "v3.0"
CHUNK = 1000  # files per chunk folder
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
PLAIT = "meta/plait.json"  # what v3.0 has no place for; other readers ignore it
PLAIT_EPISODES = "meta/plait_episodes.jsonl"  # one line per episode: its seed and whatever else the recorder knows
PACKED = "plait/statistics"  # until it is merged, an episode's row has its statistics as one text: that is quick
IMAGES_PER_GROUP = 32  # a random image costs reading its whole row group
STAGING = ".plait-finalize"


def numbered(number: int) -> dict[str, int]:
    """The place of the ``number``-th file: ``{"chunk_index": ..., "file_index": ...}``."""
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


def write_json(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises ``ValueError`` naming the file when it is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a LeRobotDataset v3.0 has one") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); restore this file from a copy") from error


def read_lines(path: Path, count: int) -> list[bytes]:
    """The first ``count`` lines of a file of JSON lines, as they are.

    Raises:
        ValueError: there are fewer, or one of them is no table.
    """
    lines = path.read_bytes().splitlines(keepends=True)[:count] if path.exists() else []
    try:
        whole = len(lines) == count and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        whole = False
    if not whole:
        way_out = "restore it from a copy, or record into another folder"
        raise ValueError(f"{path}: does not hold a line of JSON for each of {count} episodes; {way_out}")
    return lines


def write_table(path: Path, table: pa.Table, uncompressed: tuple[str, ...] = ()) -> None:
    """A small table as one parquet file; columns that hold compressed images are not compressed again."""
    sink = pa.BufferOutputStream()
    group = IMAGES_PER_GROUP if uncompressed else None
    pq.write_table(table, sink, row_group_size=group, **parquet_options(table.schema, uncompressed))
    write_whole(path, memoryview(sink.getvalue()))


def parquet_options(schema: pa.Schema, uncompressed: tuple[str, ...] = ()) -> dict[str, Any]:
    images = [f"{name}.bytes" for name in uncompressed]
    rest = [name for name in schema.names if name not in uncompressed]
    return {"compression": {**dict.fromkeys(images, "none"), **dict.fromkeys(rest, "snappy")}, "use_dictionary": rest}


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Raises ``ValueError`` naming the file when it is missing, cut off, or lacks a column."""
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, although meta/ mentions it; restore it from a copy") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error}); restore it from a copy") from error


# --------------------------------------------------------------------------------------------- features <-> Spec


def features(spec: Spec, storage: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The ``features`` of ``info.json``; ``storage`` says ``"image"`` or ``"video"`` for each camera."""
    result: dict[str, dict[str, Any]] = {}
    for camera, (height, width) in spec.cameras.items():
        shape = {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
        result[IMAGE_PREFIX + camera] = {"dtype": storage[camera], **shape}
    vectors = {STATE: spec.state, ACTION: spec.actions} if spec.state else {ACTION: spec.actions}
    for key, names in vectors.items():
        result[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    result["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        result[key] = {"dtype": "int64", "shape": [1], "names": None}
    return result


def camera_keys(info: dict[str, Any]) -> dict[str, str]:
    """Camera -> feature key, for every RGB camera (depth is left out): ``{"front": "observation.images.front"}``."""
    keys = {}
    for key, feature in info["features"].items():
        depth = (feature.get("info") or {}).get("is_depth_map") or (feature.get("info") or {}).get("video.is_depth_map")
        if feature["dtype"] in ("image", "video") and not depth:
            keys[re.sub(r"^observation\.(images?\.)?", "", key)] = key
    return keys


def image_size(feature: dict[str, Any]) -> tuple[int, int]:
    """(height, width), whichever order the dataset states its shape in."""
    shape = feature["shape"]
    first = shape[0] in (1, 3) and shape[-1] not in (1, 3)
    return (shape[1], shape[2]) if first else (shape[0], shape[1])


def spec_from_info(info: dict[str, Any]) -> Spec:
    """A ``Spec`` from the features alone: names, sizes and rate are known, conventions are not (None)."""
    return Spec(
        cameras={camera: image_size(info["features"][key]) for camera, key in camera_keys(info).items()},
        state=_names(info["features"], STATE),
        actions=_names(info["features"], ACTION),
        rate=float(info["fps"]),
    )


def _names(all_features: dict[str, Any], key: str) -> tuple[str, ...]:
    """The entries' names; ``names`` may be a list, a table of lists, or absent."""
    if key not in all_features:
        return ()
    size, names = all_features[key]["shape"][0], all_features[key].get("names")
    if isinstance(names, dict):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    if not isinstance(names, list) or len(names) != size:
        return tuple(f"{key.split('.')[-1]}_{i}" for i in range(size))
    return tuple(map(str, names))


# ---------------------------------------------------------------------------------------------------------- tasks

_PANDAS = {  # what pandas needs to see the text as the table's index
    "index_columns": ["task"],
    "column_indexes": [
        {
            "name": None,
            "field_name": None,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }
    ],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ],
    "pandas_version": "2.2.0",
}


def write_tasks(path: Path, tasks: list[str]) -> None:
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    write_table(path, table.replace_schema_metadata({"pandas": json.dumps(_PANDAS)}))


def read_tasks(path: Path) -> list[str]:
    """The instructions by task index; the column of texts is called ``task`` or ``__index_level_0__``.

    A task index that no row names gives ``""``, which the checks report when a frame uses it.
    """
    table = read_table(path)
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise ValueError(f"{path}: has columns {table.column_names}; expected 'task' and 'task_index'")
    indices = table["task_index"].to_pylist()
    tasks = [""] * (max(indices, default=-1) + 1)
    for index, task in zip(indices, table[text].to_pylist(), strict=True):
        tasks[index] = task or ""
    return tasks
