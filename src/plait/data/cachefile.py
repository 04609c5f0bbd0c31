"""The files of the image cache: what they are called, and those that grow with a recording. Loads no torch.

``front-64x64-<mark>.npy`` holds the images of one camera at one size, uint8 ``[N, h, w, 3]``. The mark follows from the
dataset's files, so that a cache of other demonstrations has another name and is never read.
"""

import hashlib
import io
import os
from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np

from plait.data.episode import EncodedEpisode

FOLDER = ".plait-cache"


class Mark:
    """A fingerprint of a dataset: it changes whenever one of its files does (its size or its time of change).

    Args:
        path: the dataset's folder.
        files: those with its frames, in any order.
    """

    def __init__(self, path: Path, files: Iterable[Path]) -> None:
        self.path, self._digest = path, hashlib.sha256()
        for file in sorted(files):
            self.add(file)

    def add(self, file: Path) -> None:
        """One more file, which is sorted behind all others."""
        status = file.stat()
        self._digest.update(f"{file.relative_to(self.path)} {status.st_size} {status.st_mtime_ns}".encode())

    def of(self, frames: int) -> str:
        """Of the dataset when it has so many frames."""
        digest = self._digest.copy()
        digest.update(f"{frames} frames".encode())
        return digest.hexdigest()[:16]


def stem(camera: str, size: tuple[int, int]) -> str:
    """What the names of a camera's cache files begin with; the mark follows."""
    return f"{camera.replace('/', '_')}-{size[0]}x{size[1]}-"


def writable(folder: Path) -> bool:
    """Make the folder; whether files can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n")  # neither git nor an upload of the dataset takes the cache along
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def opened(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The images in a cache file, memory-mapped; None when there is none, or none that is whole."""
    try:
        array = np.lib.format.open_memmap(path, "r")
    except (OSError, ValueError):
        return None
    return array if array.dtype == np.uint8 and array.shape == shape else None


class GrowingCache:
    """The cache files of a recording, one per camera at the recorded size: episodes are appended to them.

    After each append they bear the mark of the dataset as it is then: they are as good as decoded ones at once. A kill
    in the middle of an append leaves bytes beyond the end, or a mark that fits no dataset; neither is ever read.

    Args:
        path: the dataset's folder, with nothing unfinished in it.
        cameras: camera -> (height, width).
        frames: how many the dataset has already. Without a cache of exactly these, there is none: see ``lost``.

    Attributes:
        lost: why there is no cache (any more); "" while there is one.
    """

    def __init__(self, path: Path, cameras: dict[str, tuple[int, int]], frames: int) -> None:
        self.path, self.cameras, self.frames, self.lost = path, cameras, frames, ""
        self._mark = self._marks()
        self._files = self._marked()
        if not writable(path / FOLDER):
            self.lost = f"{path / FOLDER} cannot be written"
            return
        for camera, file in self._files.items():
            for stale in set((path / FOLDER).glob(f"{stem(camera, cameras[camera])}*.npy")) - {file}:
                stale.unlink(missing_ok=True)
        if frames and any(opened(file, self._shape(camera)) is None for camera, file in self._files.items()):
            self.drop(f"it lacks the {frames} frames that were there before")

    def append(self, episodes: list[EncodedEpisode]) -> None:
        """Write the images of some episodes; they do not count before ``count``.

        Raises:
            OSError: the disk is full.
        """
        for camera, path in self._files.items() if not self.lost else ():
            with path.open("r+b" if self.frames else "w+b") as file:
                file.seek(len(self._header(camera)) + self.frames * prod(self._shape(camera)[1:]))
                file.truncate()
                for episode in episodes:
                    file.write(episode.pixels[camera].data)

    def count(self, frames: int, file: Path) -> None:
        """The dataset has ``frames`` now, the last of them in one more data ``file``."""
        self.frames = frames
        self._mark.add(file)
        self._rename()

    def merged(self) -> None:
        """The dataset has the same frames in other data files now."""
        self._mark = self._marks()
        self._rename()

    def drop(self, why: str) -> None:
        """Give it up; its room on the disk becomes free."""
        self.lost = why
        for file in self._files.values():
            file.unlink(missing_ok=True)

    def _rename(self) -> None:
        before, self._files = self._files, self._marked()
        try:
            for camera, path in before.items() if not self.lost else ():
                with path.open("r+b") as file:
                    file.write(self._header(camera))
                path.replace(self._files[camera])
        except OSError as error:  # the episodes count already: they must not be written again
            self.drop(str(error))

    def _marks(self) -> Mark:
        return Mark(self.path, (self.path / "data").glob("*/*.parquet"))

    def _marked(self) -> dict[str, Path]:
        mark = self._mark.of(self.frames)
        return {c: self.path / FOLDER / f"{stem(c, size)}{mark}.npy" for c, size in self.cameras.items()}

    def _shape(self, camera: str) -> tuple[int, ...]:
        return (self.frames, *self.cameras[camera], 3)

    def _header(self, camera: str) -> bytes:
        """Of a ``.npy`` file; its length does not depend on the number of frames."""
        sink = io.BytesIO()
        content = {"descr": "|u1", "fortran_order": False, "shape": self._shape(camera)}
        np.lib.format.write_array_header_1_0(sink, content)
        return sink.getvalue()
