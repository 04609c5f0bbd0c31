"""Images decoded once into memory-mapped arrays at the size that training wants.

One file per camera, size and state of the dataset (``cachefile``), in the dataset's own hidden folder, or in the user's
cache folder when the dataset cannot be written. A file appears by rename when it is complete, so a half-written one is
never used and two processes cannot spoil each other's. A recording may have left it already.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8

from plait.data.cachefile import FOLDER, Mark, opened, stem, writable
from plait.data.images import resize
from plait.data.lerobot import Dataset
from plait.files import is_full
from plait.progress import Bar

_SPARE = 256 * 1024**2  # bytes of the disk that stay free


class Images:
    """Images of some cameras at one size: from the cache where it fits on the disk, else decoded at each access.

    Args:
        size: (height, width) of what ``read`` returns.
        cache: False never builds a cache.
    """

    def __init__(self, dataset: Dataset, cameras: list[str], size: tuple[int, int], cache: bool = True) -> None:
        self.dataset, self.size = dataset.whole or dataset, size
        self.arrays: dict[str, np.ndarray | None] = {}
        self.resident: dict[str, torch.Tensor] = {}
        if cache:
            total = len(cameras) * len(self.dataset)
            with Bar("decoding once", total, "images") as bar, ThreadPoolExecutor(2) as pool:
                built = pool.map(lambda camera: build(self.dataset, camera, size, bar.advance), cameras)
                self.arrays = dict(zip(cameras, built, strict=True))

    def reside(self, device: torch.device) -> bool:
        """Copy all cameras' images to a GPU, if they are cached and leave half of its free memory; whether they are."""
        arrays = {camera: array for camera, array in self.arrays.items() if array is not None}
        if device.type != "cuda" or len(arrays) < len(self.arrays) or not arrays:
            return False
        if sum(array.nbytes for array in arrays.values()) > torch.cuda.mem_get_info(device)[0] // 2:
            return False
        self.resident = {camera: _copy(array, device) for camera, array in arrays.items()}
        return True

    def read(self, camera: str, frames: Int[torch.Tensor, " n"]) -> UInt8[torch.Tensor, "n h w 3"]:
        """The images of some frames, on the device where they reside; the same with and without the cache."""
        if camera in self.resident:
            images = self.resident[camera]
            return images[frames.to(images.device, non_blocking=True)]
        array = self.arrays.get(camera)
        if array is not None:
            return torch.from_numpy(array[frames.numpy()])
        return resize(self.dataset.images(camera, frames.numpy()), self.size)


def _copy(array: np.ndarray, device: torch.device, rows: int = 4096) -> torch.Tensor:
    """In pieces: a memory-mapped file may be larger than the memory."""
    images = torch.empty(array.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(array), rows):
        images[start : start + rows] = torch.from_numpy(np.array(array[start : start + rows]))
    return images


def build(
    dataset: Dataset, camera: str, size: tuple[int, int], advance: Callable[[int], None] = lambda frames: None
) -> np.ndarray | None:
    """The cached images of one camera, uint8 ``[N, h, w, 3]``, memory-mapped; decoded now when they are not there yet.

    Args:
        advance: told how many more frames are decoded.

    Returns:
        None when the disk has no room for them.
    """
    name, shape = f"{stem(camera, size)}{fingerprint(dataset)}.npy", (len(dataset), *size, 3)
    for folder in _folders(dataset):
        if (array := opened(folder / name, shape)) is not None:
            return array
    folder = next((folder for folder in _folders(dataset) if writable(folder)), None)
    if folder is None or shutil.disk_usage(folder).free < int(np.prod(shape)) + _SPARE:
        return None
    path = folder / name
    try:
        _decode(dataset, camera, shape, path, advance)
    except OSError as error:
        if not is_full(error):
            raise
        return None
    for stale in set(folder.glob(f"{stem(camera, size)}*.npy")) - {path}:
        stale.unlink(missing_ok=True)
    return opened(path, shape)


def fingerprint(dataset: Dataset) -> str:
    """Changes whenever a file of the dataset does (its size or its time of change)."""
    files = {*dataset.columns.files, *(clip.path for episode in dataset.episodes for clip in episode.videos.values())}
    return Mark(dataset.path, files).of(len(dataset))


def _folders(dataset: Dataset) -> list[Path]:
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plait"
    place = hashlib.sha256(str(dataset.path.resolve()).encode()).hexdigest()[:16]
    return [dataset.path / FOLDER, user / place]


def _decode(dataset: Dataset, camera: str, shape: tuple[int, ...], path: Path, advance: Callable[[int], None]) -> None:
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        start = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape).offset
        with temporary.open("r+b") as file:  # written, not mapped: touching new pages of a map costs more than decoding
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            for indices, images in dataset.frames[camera].in_order():
                resized = resize(torch.from_numpy(images), (shape[1], shape[2])).numpy()
                for run in np.split(np.arange(len(indices)), np.flatnonzero(np.diff(indices) != 1) + 1):
                    file.seek(start + int(indices[run[0]]) * resized[0].nbytes)
                    file.write(resized[run[0] : run[-1] + 1].data)
                advance(len(indices))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
