"""The tables of a dataset: episode rows and the numeric columns of the data files, each checked."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plait.data import layout


@dataclass(frozen=True)
class Clip:
    """Where an episode lies in a video file, in seconds."""

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class EpisodeRow:
    """One episode of a dataset: frames ``start`` to ``start + length``, its instructions, and where it is stored."""

    index: int
    start: int
    length: int
    instructions: tuple[str, ...]
    data: Path
    videos: dict[str, Clip] = field(default_factory=dict)


def read_rows(path: Path, count: int, with_statistics: bool = False) -> pa.Table:
    """The first ``count`` episode rows, in order (rows beyond were never finished, and are left out).

    Raises:
        ValueError: there are fewer, or they are not numbered 0, 1, 2, ...
    """
    files = sorted((path / "meta/episodes").glob("*/*.parquet"))
    tables = [_rows_of(file, with_statistics) for file in files]
    packed = [table for table in tables if layout.PACKED in table.column_names]
    if packed and with_statistics:
        tables = [*tables[: -len(packed)], _unpacked(pa.concat_tables(packed))]
    rows = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({"episode_index": []})
    rows = rows.slice(0, count).combine_chunks()
    if rows["episode_index"].to_pylist() != list(range(count)):
        found = f"has {len(rows)} episodes" if len(rows) < count else "are not numbered 0, 1, 2, ..."
        raise ValueError(f"{path}: info.json counts {count} episodes, meta/episodes {found}; restore meta/ from a copy")
    return rows


def _rows_of(file: Path, with_statistics: bool) -> pa.Table:
    try:
        parquet = pq.ParquetFile(file)
        names = [name for name in parquet.schema_arrow.names if not name.startswith(("stats/", layout.PACKED))]
        return parquet.read(columns=None if with_statistics else names, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: not a readable parquet file ({error}); restore it from a copy") from error


def _unpacked(rows: pa.Table) -> pa.Table:
    """Statistics as the format has them: a column for each, in place of the one text that recording writes."""
    packed = [json.loads(text) for text in rows[layout.PACKED].to_pylist()]
    index = rows.column_names.index(layout.PACKED)
    rows = rows.remove_column(index)
    for offset, name in enumerate(packed[0]):
        values = pa.array([row[name] for row in packed])
        rows = rows.add_column(index + offset, name, values.cast(_as_stored(values.type)))
    return rows


def _as_stored(kind: pa.DataType) -> pa.DataType:
    """A list's type as parquet gives it back, so that merging twice writes the same bytes as merging once."""
    return pa.list_(pa.field("element", _as_stored(kind.value_type))) if pa.types.is_list(kind) else kind


def episode_rows(path: Path, info: dict[str, Any]) -> list[EpisodeRow]:
    """Every finished episode and its files."""
    table = read_rows(path, info["total_episodes"])
    wanted = ["length", "tasks", "data/chunk_index", "data/file_index"]
    cameras = {c: key for c, key in layout.camera_keys(info).items() if info["features"][key]["dtype"] == "video"}
    fields = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    wanted += [f"videos/{key}/{name}" for key in cameras.values() for name in fields]
    for name in wanted:
        if name not in table.column_names:
            raise ValueError(f"{path}: meta/episodes lacks the column {name!r}; restore meta/ from a copy")
    rows, start = [], 0
    for row in table.select(wanted).to_pylist():
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        videos = {}
        for camera, key in cameras.items():
            chunk, file, begin, end = (row[f"videos/{key}/{name}"] for name in fields)
            relative = info["video_path"].format(video_key=key, chunk_index=chunk, file_index=file)
            videos[camera] = Clip(path / relative, begin, end)
        data = path / info["data_path"].format(**place)
        rows.append(EpisodeRow(len(rows), start, row["length"], tuple(row["tasks"] or ()), data, videos))
        start += row["length"]
    return rows


@dataclass(frozen=True)
class Columns:
    """The numeric columns of every frame, in episode order, and the place (file, row) of each frame on disk."""

    values: dict[str, np.ndarray]
    files: list[Path]
    file: np.ndarray
    row: np.ndarray


def read_columns(episodes: list[EpisodeRow], features: dict[str, Any]) -> Columns:
    """Read state, action, time and indices of all episodes.

    Raises:
        ValueError: an episode's data is absent, or its number of frames is not what its row says; a value is missing.
    """
    names = [layout.STATE, layout.ACTION, "timestamp", "frame_index", "episode_index", "task_index"]
    names = [name for name in names if name in features]
    files = list(dict.fromkeys(episode.data for episode in episodes))
    images = [key for key in layout.camera_keys({"features": features}).values() if features[key]["dtype"] == "image"]
    tables = [_Data(file, names, images) for file in files]
    number = {file: i for i, file in enumerate(files)}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    places, rows = [], []
    for episode in episodes:
        table = tables[number[episode.data]]
        first = table.rows_of(episode)
        for name in names:
            parts[name].append(table.vector(name, features[name]["shape"][0])[first : first + episode.length])
        places.append(np.full(episode.length, number[episode.data]))
        rows.append(np.arange(first, first + episode.length))
    values = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Columns(values, files, np.concatenate(places), np.concatenate(rows))


class _Data:
    """The numeric columns of one data file."""

    def __init__(self, file: Path, names: list[str], images: list[str]) -> None:
        self.file, self.table, self._vectors = file, layout.read_table(file, names), {}
        columns = pq.read_schema(file).names
        absent = [name for name in (*names, *images) if name not in columns]
        if absent:
            raise ValueError(f"{file}: lacks the column {absent[0]!r} that info.json declares; restore it from a copy")
        _check_images(file, images)
        episode = self.vector("episode_index", 1)
        values, first, counts = np.unique(episode, return_index=True, return_counts=True)
        self._span = {int(v): (int(f), int(c)) for v, f, c in zip(values, first, counts, strict=True)}

    def rows_of(self, episode: EpisodeRow) -> int:
        """The episode's first row."""
        first, count = self._span.get(episode.index, (0, 0))
        if count != episode.length:
            raise ValueError(
                f"{self.file}: episode {episode.index} has {count} frames here and length {episode.length} in "
                "meta/episodes; drop the episode or restore the file"
            )
        return first

    def vector(self, name: str, size: int) -> np.ndarray:
        """A column as ``[n, size]`` (``[n]`` for the indices and the time)."""
        if name not in self._vectors:
            column = self.table[name].combine_chunks()
            kind = getattr(column.type, "value_type", column.type)  # of a list's entries
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
                raise ValueError(f"{self.file}: {name} is of type {column.type}; numbers are expected")
            flat = column if kind == column.type else column.flatten()
            if column.null_count or flat.null_count:
                row = (column if column.null_count else flat).is_null().index(True).as_py()
                row = row if column.null_count else row // size
                raise ValueError(f"{self.file}: {name} is missing at row {row}; every frame needs one")
            if len(flat) != len(column) * size:
                raise ValueError(
                    f"{self.file}: {name} has {len(flat)} values in {len(column)} rows; {size} each expected"
                )
            values = flat.to_numpy(zero_copy_only=False)
            vector = name in (layout.STATE, layout.ACTION)
            self._vectors[name] = values.reshape(-1, size).astype(np.float32) if vector else values
        return self._vectors[name]


def _check_images(file: Path, keys: list[str]) -> None:
    """Missing images are counted in the file's footer: nothing needs to be read."""
    metadata = pq.read_metadata(file)
    leaves = {f"{key}.bytes" for key in keys}
    for group in range(metadata.num_row_groups if keys else 0):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            missing = column.statistics.null_count if column.statistics else 0
            if missing and column.path_in_schema in leaves:
                key = column.path_in_schema.removesuffix(".bytes")
                raise ValueError(f"{file}: {key} is missing for {missing} frames; every frame needs one")
