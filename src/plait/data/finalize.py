"""Merge the files of single episodes into few large ones, safely against a kill at any moment.

The merged files are built beside the dataset in a hidden folder. A marker file says that they are complete; only then
are folders swapped by rename, and whoever opens the dataset next completes a swap that was cut short.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from plait.data import layout, video
from plait.data.tables import read_rows
from plait.files import flush, write_whole
from plait.processes import processors

_SWAPPED = ("data", "videos", "meta/episodes")
_READY = "ready"


def merge(path: Path, info: dict[str, Any]) -> None:
    """Rewrite ``data``, ``videos`` and ``meta/episodes`` of the dataset at ``path`` into few files.

    Raises:
        OSError: the disk is full; the dataset stays as it was.
    """
    staging = path / layout.STAGING
    try:
        rows = read_rows(path, info["total_episodes"], with_statistics=True)
        rows = _merge_data(path, staging, info, rows)
        for key, feature in info["features"].items():
            if feature["dtype"] == "video":
                rows = _merge_videos(path, staging, info, rows, key)
        for name in ("chunk_index", "file_index"):
            rows = _replace(rows, f"meta/episodes/{name}", [0] * len(rows))
        layout.write_table(staging / layout.EPISODES_PATH.format(**layout.numbered(0)), rows)
        flush(staging)  # before the old files go: a power cut must not take both
        write_whole(staging / _READY, b"")
    except Exception:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    recover(path)
    flush(path / "meta")  # what was not merged; from here on, a power cut takes nothing


def recover(path: Path, discard: bool = False) -> None:
    """Complete a swap that was cut short; with ``discard`` (before writing) also remove a merge that was.

    Raises:
        ValueError: the swap cannot be completed because the folder cannot be written.
    """
    staging = path / layout.STAGING
    if not (staging / _READY).exists():
        if discard:
            shutil.rmtree(staging, ignore_errors=True)
        return
    try:
        for number, name in enumerate(_SWAPPED):
            if (staging / name).exists():
                with suppress(FileNotFoundError):  # renamed away already, or never there
                    (path / name).rename(staging / f"old-{number}")
                (staging / name).rename(path / name)
    except OSError as error:
        raise ValueError(f"{path}: a merge was cut short; make the folder writable to complete it ({error})") from error
    shutil.rmtree(staging, ignore_errors=True)


def _merge_data(path: Path, staging: Path, info: dict[str, Any], rows: pa.Table) -> pa.Table:
    places = list(zip(rows["data/chunk_index"].to_pylist(), rows["data/file_index"].to_pylist(), strict=True))
    sources = {place: path / info["data_path"].format(chunk_index=place[0], file_index=place[1]) for place in places}
    targets = _assign(sources, info["data_files_size_in_mb"])
    images = tuple(key for key, feature in info["features"].items() if feature["dtype"] == "image")

    def join(number: int) -> None:
        target = staging / info["data_path"].format(**layout.numbered(number))
        parts = [layout.read_table(sources[place]) for place in sources if targets[place] == number]
        layout.write_table(target, pa.concat_tables(parts), images)

    with ThreadPoolExecutor(processors()) as pool:
        list(pool.map(join, sorted(set(targets.values()))))
    return _replace_place(rows, "data", [targets[place] for place in places])


def _merge_videos(path: Path, staging: Path, info: dict[str, Any], rows: pa.Table, key: str) -> pa.Table:
    prefix, rate = f"videos/{key}", float(info["fps"])
    places = list(zip(rows[f"{prefix}/chunk_index"].to_pylist(), rows[f"{prefix}/file_index"].to_pylist(), strict=True))
    name = lambda where: info["video_path"].format(video_key=key, **where)  # noqa: E731
    sources = {place: path / name({"chunk_index": place[0], "file_index": place[1]}) for place in places}
    frames = dict.fromkeys(sources, 0)
    for place, length in zip(places, rows["length"].to_pylist(), strict=True):
        frames[place] += length
    targets = _assign(sources, info["video_files_size_in_mb"])
    starts: dict[tuple[int, int], float] = {}
    for number in sorted(set(targets.values())):
        members = [place for place in sources if targets[place] == number]
        for i, place in enumerate(members):
            starts[place] = sum(frames[before] for before in members[:i]) / rate
        target = staging / name(layout.numbered(number))
        target.parent.mkdir(parents=True, exist_ok=True)
        video.join([sources[place] for place in members], [frames[place] for place in members], target, rate)
    for column in ("from_timestamp", "to_timestamp"):
        times = rows[f"{prefix}/{column}"].to_pylist()
        shifted = [time + starts[place] for time, place in zip(times, places, strict=True)]
        rows = _replace(rows, f"{prefix}/{column}", shifted)
    return _replace_place(rows, prefix, [targets[place] for place in places])


def _assign(sources: dict[tuple[int, int], Path], limit_mb: float) -> dict[tuple[int, int], int]:
    """Which merged file each source goes to, in order, none above the limit unless one source is."""
    targets, number, size = {}, 0, 0
    for place, source in sources.items():
        weight = source.stat().st_size
        if size and size + weight > limit_mb * 1024**2:
            number, size = number + 1, 0
        targets[place], size = number, size + weight
    return targets


def _replace(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    index = rows.column_names.index(name)
    return rows.set_column(index, rows.schema.field(index), pa.array(values, rows.schema.field(index).type))


def _replace_place(rows: pa.Table, prefix: str, numbers: list[int]) -> pa.Table:
    for name in ("chunk_index", "file_index"):
        rows = _replace(rows, f"{prefix}/{name}", [layout.numbered(number)[name] for number in numbers])
    return rows
