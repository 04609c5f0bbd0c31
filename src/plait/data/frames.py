"""Random access to the images of a dataset, wherever they are: PNG in parquet, or video."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plait.data.png import decode_png
from plait.data.tables import Columns, EpisodeRow
from plait.data.video import Videos, every_frame
from plait.processes import processors

_OPEN_FILES = 64


class PngFrames:
    """Images stored as PNG bytes in the data files. Safe to use from several threads."""

    def __init__(self, columns: Columns, key: str, size: tuple[int, int]) -> None:
        self.columns, self.key, self.size = columns, key, size
        self._open: OrderedDict[int, tuple[pq.ParquetFile, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 ``[n, h, w, 3]`` of the frames at ``indices``.

        Raises:
            ValueError: an image is missing, not readable, or of another size; the message names file and row.
        """
        images = np.empty((len(indices), *self.size, 3), np.uint8)
        wanted: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for position, index in enumerate(indices):
            file, row = int(self.columns.file[index]), int(self.columns.row[index])
            group = int(np.searchsorted(self._file(file)[1], row, side="right")) - 1
            wanted[file, group].append((position, row))
        for (file, group), places in sorted(wanted.items()):
            data, first = self._group(file, group)
            for position, row in places:
                images[position] = self._decode(data[row - first].as_py(), file, row)
        return images

    def _decode(self, data: bytes | None, file: int, row: int) -> np.ndarray:
        image = decode_png(data or b"")
        if image is None or image.shape[:2] != self.size:
            height, width = self.size
            what = "is missing" if not data else "is not a readable image"
            what = what if image is None else f"is {image.shape[0]}x{image.shape[1]} pixels"
            file_name = self.columns.files[file]
            raise ValueError(f"{file_name}: {self.key} {what} at row {row}; expected {height}x{width} pixels")
        return image

    def _group(self, file: int, group: int) -> tuple[pa.Array, int]:
        """The encoded images of one row group, and the number of its first row."""
        parquet, starts = self._file(file)
        try:
            with self._lock:
                table = parquet.read_row_group(group, columns=[f"{self.key}.bytes"], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.columns.files[file]}: cannot be read ({error}); restore it from a copy") from error
        return table[self.key].combine_chunks().field("bytes"), int(starts[group])

    def _file(self, number: int) -> tuple[pq.ParquetFile, np.ndarray]:
        with self._lock:
            if number not in self._open:
                parquet = self._parquet(self.columns.files[number])
                groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
                self._open[number] = (parquet, np.cumsum([0, *groups[:-1]]))
                if len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return self._open[number]

    def _parquet(self, file: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(file, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{file}: cannot be read any more ({error}); is it being recorded anew?") from error

    def in_order(self, block: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices, images) of all frames in blocks, decoded by as many threads as there are processors."""
        total = len(self.columns.row)
        blocks = [np.arange(start, min(start + block, total)) for start in range(0, total, block)]
        threads = processors()
        with ThreadPoolExecutor(threads) as pool:
            yield from zip(blocks, _ahead(pool, self.read, blocks, 2 * threads), strict=True)


class VideoFrames:
    """Images stored as video. Safe to use from several threads."""

    def __init__(
        self, episodes: list[EpisodeRow], camera: str, time: np.ndarray, rate: float, size: tuple[int, int]
    ) -> None:
        clips = [episode.videos[camera] for episode in episodes]
        lengths = [episode.length for episode in episodes]
        number = {path: i for i, path in enumerate(dict.fromkeys(clip.path for clip in clips))}
        self.paths, self.size, self.tolerance = list(number), size, 0.25 / rate
        self.time = np.repeat([clip.start for clip in clips], lengths) + time  # of every frame in its own file
        self.file = np.repeat([number[clip.path] for clip in clips], lengths)
        self._videos = Videos()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 ``[n, h, w, 3]``. Raises ``ValueError`` naming the file where it holds no frame at that time."""
        images = np.empty((len(indices), *self.size, 3), np.uint8)
        files = self.file[indices]
        for file in np.unique(files):
            positions = np.flatnonzero(files == file)
            path = self.paths[file]
            frames = self._videos.frames(path, self.time[indices[positions]].tolist(), self.tolerance)
            for position, frame in zip(positions, frames, strict=True):
                images[position] = self._sized(frame, path)
        return images

    def _sized(self, frame: np.ndarray, path: Path) -> np.ndarray:
        if frame.shape[:2] != self.size:
            raise ValueError(f"{path}: frames of {frame.shape[:2]} pixels; info.json says {self.size}, correct it")
        return frame

    def in_order(self, block: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices, images) of all frames, every file decoded once from its beginning."""
        for file, path in enumerate(self.paths):
            indices = np.flatnonzero(self.file == file)
            indices = indices[np.argsort(self.time[indices], kind="stable")]
            done = 0
            for images in _blocks(self._matched(path, self.time[indices]), block):
                yield indices[done : done + len(images)], images
                done += len(images)
            if done < len(indices):
                late = f"{self.time[indices[done]]:.4f} s"
                raise ValueError(f"{path}: no frame at {late}; the video is shorter than its episodes, or cut off")

    def _matched(self, path: Path, times: np.ndarray) -> Iterator[np.ndarray]:
        """The frame at each of the (ascending) times, until there is none."""
        wanted = iter(times.tolist())
        time = next(wanted, None)
        for shown, frame in every_frame(path):
            while time is not None and abs(shown - time) <= self.tolerance:
                yield self._sized(frame, path)
                time = next(wanted, None)


def _blocks(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    while batch := list(islice(images, size)):
        yield np.stack(batch)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[np.ndarray], np.ndarray], items: list[np.ndarray], depth: int
) -> Iterator[np.ndarray]:
    """``map`` over a pool with at most ``depth`` results waiting."""
    pending: list[Future[np.ndarray]] = []
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= depth:
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()
