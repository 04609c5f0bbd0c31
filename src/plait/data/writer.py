"""Write a LeRobotDataset v3.0 so that a kill at any moment leaves a valid dataset of all finished episodes.

Each episode, or each few that are appended together, is written to files of its own: videos, data, its line of
``plait_episodes.jsonl``, its episode row, and last ``info.json``, whose count of episodes is the one thing that makes
an episode part of the dataset. ``plait_episodes.jsonl`` grows in place; every other file is written whole or not at all
(temporary name, atomic rename). Whatever lies beyond the count is ignored by readers and overwritten by the next
episode. ``finalize`` merges the small files into large ones.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plait.config import refuse_other, to_dict
from plait.data import layout, statistics, video
from plait.data.cachefile import GrowingCache
from plait.data.episode import EncodedEpisode, Episode, encode, storage
from plait.data.finalize import merge, recover
from plait.data.info import read_info, read_spec
from plait.data.tables import read_rows
from plait.files import is_full, room, write_whole
from plait.spec import Spec

ByFeature = dict[str, statistics.Statistics]
DATA_MB, VIDEO_MB = 100, 200  # the largest size of a merged file, as lerobot has it


class DatasetWriter:
    """Appends episodes to a dataset; opening a folder that has some goes on after the last finished one.

    Args:
        path: the dataset's folder; made when missing.
        spec: the embodiment; ``spec.rate`` is needed.
        images: ``"png"``, ``"video"`` or ``"auto"`` (PNG up to 96 pixels).
        provenance: anything about the recording that JSON can hold; kept in ``meta/plait.json``.
        cache: keep the pixels beside the dataset as well, where training finds them and decodes nothing. A full disk
            takes the cache before it takes an episode.

    Attributes:
        cache: None when none was asked for; its ``lost`` says why there is none although it was.

    Raises:
        ValueError: the folder holds a dataset of another embodiment or storage (the message lists the differences), or
            a cache is asked for together with video.
    """

    def __init__(
        self,
        path: str | Path,
        spec: Spec,
        images: str = "auto",
        provenance: dict[str, Any] | None = None,
        cache: bool = False,
    ) -> None:
        self.path, self.spec, self.storage = Path(path), spec, storage(spec, images)
        self.videos = [camera for camera, kind in self.storage.items() if kind == "video"]
        if cache and self.videos:
            lossy = f"camera {self.videos[0]!r} is stored as video, which does not keep each pixel"
            raise ValueError(f"no cache can be recorded: {lossy}; say --images png, or leave the cache to training")
        recover(self.path, discard=True)
        begun = (self.path / layout.PLAIT).exists()
        if (self.path / layout.INFO).exists() and not (begun and not read_info(self.path)["total_episodes"]):
            self._resume()
        else:
            self._create(provenance or {}, begun)
        self.cache = GrowingCache(self.path, spec.cameras, self.frames) if cache else None

    def append(self, *episodes: Episode | EncodedEpisode) -> None:
        """Write finished episodes. When this returns, a kill no longer loses them.

        Raises:
            ValueError: an episode does not fit the ``Spec``.
            OSError: the disk is full; nothing is lost, and ``append`` may be called again with the same episodes.
        """
        encoded = [encode(e, self.spec, self.storage) if isinstance(e, Episode) else e for e in episodes]
        with room(self.path, self._safe):
            for group in [[episode] for episode in encoded] if self.videos else [encoded]:  # a video holds one episode
                self._sparing(partial(self._commit, group))

    def _sparing(self, write: Callable[[], None]) -> None:
        """Do it; when the disk is full, do it without the cache."""
        try:
            write()
        except Exception as error:
            if not is_full(error) or not self.cache or self.cache.lost:
                raise
            self.cache.drop("the disk was full")
            write()

    def _commit(self, group: list[EncodedEpisode]) -> None:
        """Write one or more episodes into one set of files."""
        place = layout.numbered(self._files)
        tasks = list(dict.fromkeys([*self.tasks, *(episode.instruction for episode in group)]))
        numbers = {task: number for number, task in enumerate(tasks)}
        starts = self.frames + np.cumsum([0, *map(len, group)])
        if self.cache:
            self.cache.append(group)
        rows, columns, total = [], [], self._statistics
        for i, episode in enumerate(group):
            columns.append(self._columns(episode, self.episodes + i, int(starts[i]), numbers[episode.instruction]))
            stats = _index_statistics(columns[-1]) | episode.statistics
            total = {key: statistics.fold(total.get(key), stats[key]) for key in self.features}
            rows.append(self._row(episode, self.episodes + i, int(starts[i]), stats, place))
            for camera in self.videos:
                key = layout.IMAGE_PREFIX + camera
                write_whole(self.path / layout.VIDEO_PATH.format(video_key=key, **place), episode.videos[camera])
        self._write_data(group, columns, place)
        if len(tasks) > len(self.tasks):
            layout.write_tasks(self.path / layout.TASKS, tasks)
        extra = self._write_extra([episode.extra for episode in group])
        layout.write_table(self.path / layout.EPISODES_PATH.format(**place), pa.Table.from_pylist(rows))
        episodes = self.episodes + len(group)
        if episodes.bit_length() > self.episodes.bit_length():  # after 1, 2, 4, 8, ... episodes, and at the end
            _write_statistics(self.path, total)
        info = self._info | {
            "total_episodes": episodes,
            "total_frames": int(starts[-1]),
            "total_tasks": len(tasks),
            "splits": {"train": f"0:{episodes}"},
        }
        layout.write_json(self.path / layout.INFO, info)  # from here on, the episodes count
        self._info, self.tasks, self._statistics = info, tasks, total
        self._files, self._extra_bytes = self._files + 1, extra
        if self.cache:
            self.cache.count(self.frames, self.path / layout.DATA_PATH.format(**place))

    def finalize(self) -> None:
        """Merge the episodes' files into few large ones. Killed or failing midway, it leaves the dataset as it was."""
        files = sorted((self.path / "meta/episodes").glob("*/*.parquet"))
        if files and layout.PACKED in pq.read_schema(files[-1]).names:
            with room(self.path, self._safe):
                _write_statistics(self.path, self._statistics)
                self._sparing(partial(merge, self.path, self._info))
            self._files = _next_file(read_rows(self.path, self.episodes))
            if self.cache:
                self.cache.merged()

    @property
    def episodes(self) -> int:
        return self._info["total_episodes"]

    @property
    def frames(self) -> int:
        return self._info["total_frames"]

    def _safe(self) -> str:
        return f"{self.episodes} finished episodes are safe" if self.episodes else "no episode is finished yet"

    def extras(self) -> list[dict[str, Any]]:
        """What was kept beside each episode."""
        if not self.episodes:
            return []
        with (self.path / layout.PLAIT_EPISODES).open("rb") as file:
            return [json.loads(line) for line in file.read(self._extra_bytes).splitlines()]

    @property
    def features(self) -> dict[str, Any]:
        return self._info["features"]

    # ------------------------------------------------------------------------------------------------ beginning

    def _create(self, provenance: dict[str, Any], begun: bool) -> None:
        """``begun``: an earlier writer left no finished episode here; nothing that it left is kept."""
        foreign = [file.name for file in self.path.glob("*") if file.name != "meta"]
        if foreign and not begun:
            raise ValueError(f"{self.path}: holds {foreign[0]!r} and no dataset; record into an empty or a new folder")
        self._info = _empty_info(self.spec, self.storage)
        self.tasks: list[str] = []
        self._statistics: ByFeature = {}
        self._files = self._extra_bytes = 0
        self._clean()
        content = {"format_version": 1, "spec": to_dict(self.spec), "provenance": provenance}
        with room(self.path, self._safe):
            layout.write_json(self.path / layout.PLAIT, content)
            layout.write_json(self.path / layout.INFO, self._info)

    def _resume(self) -> None:
        self._info = read_info(self.path)
        self._check_same()
        rows = read_rows(self.path, self.episodes, with_statistics=True)
        self.tasks = layout.read_tasks(self.path / layout.TASKS)[: self._info["total_tasks"]] if self.episodes else []
        self._statistics = {}
        for row in rows.to_pylist():
            for key in self.features:
                self._statistics[key] = statistics.fold(self._statistics.get(key), _row_statistics(row, key))
        self._files = _next_file(rows)
        lines = layout.read_lines(self.path / layout.PLAIT_EPISODES, self.episodes)
        self._extra_bytes = sum(map(len, lines))
        self._clean()

    def _clean(self) -> None:
        """Remove what a kill left behind: temporary files, and files of an episode that was not finished."""
        for folder in ("data", "videos", "meta"):
            for file in (self.path / folder).rglob("*"):
                place = re.fullmatch(r".*/chunk-(\d+)/file-(\d+)\.\w+", file.as_posix())
                unfinished = place and int(place[1]) * layout.CHUNK + int(place[2]) >= self._files
                if unfinished or (file.name.startswith(".") and file.suffix == ".tmp"):
                    file.unlink()

    def _check_same(self) -> None:
        if not (self.path / layout.PLAIT).exists():
            raise ValueError(f"{self.path}: a dataset that plait did not write; record into another folder")
        differences = read_spec(self.path, self._info).differences(self.spec, "the dataset", "the new recording")
        kinds = {c: self.features[key]["dtype"] for c, key in layout.camera_keys(self._info).items()}
        differences += [
            f"camera {camera!r}: {kinds[camera]} in the dataset, {kind} now"
            for camera, kind in self.storage.items()
            if kinds.get(camera, kind) != kind
        ]
        if layout.spec_from_info(self._info).cameras != self.spec.cameras and not differences:
            differences = ["the cameras have another size"]
        refuse_other(self.path, differences)

    # -------------------------------------------------------------------------------------------- few episodes

    def _columns(self, episode: EncodedEpisode, index: int, start: int, task: int) -> dict[str, np.ndarray]:
        n = len(episode)
        frame = np.arange(n)
        vectors = {layout.ACTION: episode.action} | ({} if episode.state is None else {layout.STATE: episode.state})
        return vectors | {
            "timestamp": (frame / self._info["fps"]).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(n, index),
            "index": frame + start,
            "task_index": np.full(n, task),
        }

    def _write_data(
        self, group: list[EncodedEpisode], columns: list[dict[str, np.ndarray]], place: dict[str, int]
    ) -> None:
        arrays: dict[str, pa.Array] = {}
        for key, feature in self.features.items():
            if feature["dtype"] == "image":
                camera = key.removeprefix(layout.IMAGE_PREFIX)
                arrays[key] = _image_array([png for episode in group for png in episode.pngs[camera]])
            elif feature["dtype"] != "video":
                arrays[key] = _vector_array(np.concatenate([part[key] for part in columns]))
        images = tuple(key for key, feature in self.features.items() if feature["dtype"] == "image")
        layout.write_table(self.path / layout.DATA_PATH.format(**place), pa.table(arrays), images)

    def _write_extra(self, extras: list[dict[str, Any]]) -> int:
        """Add a line for each, over whatever an unfinished episode left there; returns the file's new size."""
        lines = b"".join(
            json.dumps({"episode_index": index} | extra, ensure_ascii=False).encode() + b"\n"
            for index, extra in enumerate(extras, self.episodes)
        )
        path = self.path / layout.PLAIT_EPISODES
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(self._extra_bytes)
            file.seek(self._extra_bytes)
            file.write(lines)
        return self._extra_bytes + len(lines)

    def _row(
        self, episode: EncodedEpisode, index: int, start: int, stats: ByFeature, place: dict[str, int]
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"episode_index": index, "tasks": [episode.instruction], "length": len(episode)}
        row |= {f"data/{name}": value for name, value in place.items()}
        row |= {"dataset_from_index": start, "dataset_to_index": start + len(episode)}
        for camera in self.videos:
            prefix = f"videos/{layout.IMAGE_PREFIX}{camera}"
            row |= {f"{prefix}/{name}": value for name, value in place.items()}
            row |= {f"{prefix}/from_timestamp": 0.0, f"{prefix}/to_timestamp": len(episode) / self._info["fps"]}
        packed = {f"stats/{key}/{name}": v.tolist() for key in self.features for name, v in stats[key].items()}
        row[layout.PACKED] = json.dumps(packed)
        return row | {f"meta/episodes/{name}": value for name, value in place.items()}


def _empty_info(spec: Spec, kinds: dict[str, str]) -> dict[str, Any]:
    rate = spec.rate or 0.0
    features = layout.features(spec, kinds)
    for camera, kind in kinds.items():
        if kind == "video":
            features[layout.IMAGE_PREFIX + camera]["info"] = video.info(*spec.cameras[camera], rate)
    return {
        "codebase_version": layout.VERSION,
        "robot_type": None,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": layout.CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": int(rate) if float(rate).is_integer() else rate,
        "splits": {},
        "data_path": layout.DATA_PATH,
        "video_path": layout.VIDEO_PATH if "video" in kinds.values() else None,
        "features": features,
    }


def _index_statistics(columns: dict[str, np.ndarray]) -> ByFeature:
    """Of the columns with one number per frame; all at once, since quantiles of few numbers are mostly overhead."""
    names = [name for name, values in columns.items() if values.ndim == 1]
    together = statistics.of_vectors(np.stack([columns[name] for name in names], axis=1))
    count = together.pop("count")
    return {
        name: {kind: values[i : i + 1] for kind, values in together.items()} | {"count": count}
        for i, name in enumerate(names)
    }


def _write_statistics(path: Path, total: ByFeature) -> None:
    plain = {key: {name: value.tolist() for name, value in stats.items()} for key, stats in total.items()}
    layout.write_json(path / layout.STATS, plain)


def _row_statistics(row: dict[str, Any], key: str) -> statistics.Statistics:
    prefix = f"stats/{key}/"
    return {name.removeprefix(prefix): np.asarray(v) for name, v in row.items() if name.startswith(prefix)}


def _next_file(rows: pa.Table) -> int:
    """The first number that no file of these episodes has, whatever its kind."""
    chunks = [name for name in rows.column_names if name.endswith("/chunk_index")]
    numbers = [
        chunk * layout.CHUNK + file
        for name in chunks
        for chunk, file in zip(
            rows[name].to_pylist(), rows[name.replace("chunk_index", "file_index")].to_pylist(), strict=True
        )
    ]
    return max(numbers, default=-1) + 1


def _image_array(pngs: list[bytes]) -> pa.Array:
    fields = {"bytes": pa.array(pngs, pa.binary()), "path": pa.nulls(len(pngs), pa.string())}
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _vector_array(values: np.ndarray) -> pa.Array:
    """``[n, d]`` -> lists of d; ``[n]`` and ``[n, 1]`` -> plain values, as the format has it."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    plain = values.ndim == 1 or values.shape[1] == 1
    return flat if plain else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
