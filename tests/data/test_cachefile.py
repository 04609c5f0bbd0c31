import errno
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plait.data import cache
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.data.writer import DatasetWriter
from plait.spec import Spec
from plait.types import Inputs, Observation

from .conftest import Killed, contents, kill_before_rename, make_dataset, make_episode, make_spec

SIZE = (16, 16)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / cache.FOLDER).glob("*.npy")}


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, decodes: bool = False) -> None:
    """What ``Images`` reads is what decoding gives; whether it decodes is told."""
    dataset, decoded = Dataset.open(folder), []
    with monkeypatch.context() as patch:
        real = cache._decode
        patch.setattr(cache, "_decode", lambda *arguments: (decoded.append(1), real(*arguments)))
        images = cache.Images(dataset, list(dataset.spec.cameras), SIZE)
    assert bool(decoded) == decodes
    for camera in dataset.spec.cameras:
        everything = torch.arange(len(dataset))
        assert torch.equal(images.read(camera, everything), dataset.images(camera, everything))


def test_it_is_what_decoding_would_leave(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch):
    writer = DatasetWriter(tmp_path / "d", spec, "png", cache=True)
    writer.append(make_episode(0, spec), make_episode(1, spec))
    check(tmp_path / "d", monkeypatch)  # of an unfinished recording
    writer.append(make_episode(2, spec))
    writer.finalize()
    check(tmp_path / "d", monkeypatch)
    writer = DatasetWriter(tmp_path / "d", spec, "png", cache=True)
    writer.append(make_episode(3, spec))
    writer.finalize()
    check(tmp_path / "d", monkeypatch)
    assert writer.cache and not writer.cache.lost
    grown = files(tmp_path / "d")
    for name in grown:
        (tmp_path / "d" / cache.FOLDER / name).unlink()
    check(tmp_path / "d", monkeypatch, decodes=True)
    assert files(tmp_path / "d") == grown and len(grown) == 2
    assert contents(tmp_path / "d") == contents(make_dataset(tmp_path / "without", spec))


def test_training_reads_the_same_batches(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch):
    writer = DatasetWriter(tmp_path / "d", spec, cache=True)
    writer.append(*(make_episode(i, spec) for i in range(4)))
    writer.finalize()
    monkeypatch.setattr(cache, "_decode", None)

    def prepare(seen: Observation) -> Inputs:
        words = torch.zeros(len(seen), 1, dtype=torch.int64)
        return Inputs(seen.images, seen.state, words, words.bool(), {})

    dataset = Dataset.open(tmp_path / "d")
    loaders = [Loader(dataset, prepare, 3, 8, SIZE, cache=cached) for cached in (True, False)]
    assert isinstance(loaders[0].images.arrays["wrist"], np.memmap)
    for one, other in zip(*(loader.stream(0, 4) for loader in loaders), strict=True):
        assert all(torch.equal(one.inputs.images[c], other.inputs.images[c]) for c in spec.cameras)


def test_a_kill_between_any_two_renames_leaves_no_wrong_cache(
    tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
):
    continued = []
    for kill in range(60):
        folder = tmp_path / f"{kill}"
        try:
            with kill_before_rename(monkeypatch, kill):
                writer = DatasetWriter(folder, spec, cache=True)
                for index in range(2):
                    writer.append(make_episode(index, spec))
                writer.finalize()
                break
        except Killed:
            pass
        writer = DatasetWriter(folder, spec, cache=True)
        assert writer.cache
        continued.append(not writer.cache.lost)
        if writer.episodes and continued[-1]:
            check(folder, monkeypatch)
        for index in range(writer.episodes, 2):
            writer.append(make_episode(index, spec))
        writer.finalize()
        check(folder, monkeypatch, decodes=bool(writer.cache.lost))
    assert kill > 15 and 0.5 < np.mean(continued) < 1


@pytest.mark.parametrize("change", ["continued without it", "touched", "cut", "one camera"])
def test_a_stale_one_is_dropped(tmp_path: Path, spec: Spec, change: str, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "d"
    writer = DatasetWriter(folder, spec, cache=True)
    writer.append(make_episode(0, spec))
    one, other = (folder / cache.FOLDER / name for name in files(folder))
    if change == "continued without it":
        DatasetWriter(folder, spec).append(make_episode(1, spec))
    elif change == "touched":
        os.utime(next((folder / "data").rglob("*.parquet")), ns=(1, 1))
    elif change == "cut":
        one.write_bytes(one.read_bytes()[:-1])
    else:
        other.unlink()
    writer = DatasetWriter(folder, spec, cache=True)
    assert writer.cache and "lacks the " in writer.cache.lost and not files(folder)
    writer.append(make_episode(writer.episodes, spec))
    writer.finalize()
    check(folder, monkeypatch, decodes=True)


def test_nothing_of_an_earlier_dataset_is_kept(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "d"
    DatasetWriter(folder, spec, cache=True).append(make_episode(3, spec))
    (folder / "meta/info.json").unlink()
    writer = DatasetWriter(folder, spec, cache=True)
    writer.append(make_episode(0, spec))
    check(folder, monkeypatch)
    assert len(files(folder)) == 2


def test_a_disk_that_the_cache_fills_loses_the_cache_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = make_spec(32)
    writer = DatasetWriter(tmp_path / "d", spec, cache=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # bytes in a file: 9 pictures
    try:
        writer.append(make_episode(0, spec))
        assert writer.cache and not writer.cache.lost and len(files(tmp_path / "d")) == 2
        writer.append(make_episode(1, spec))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.cache.lost == "the disk was full" and not files(tmp_path / "d")
    writer.finalize()
    assert contents(tmp_path / "d") == contents(make_dataset(tmp_path / "without", spec, episodes=2))


def test_the_cache_makes_room_for_episodes(tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch):
    writer, real = DatasetWriter(tmp_path / "d", spec, cache=True), Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if files(tmp_path / "d"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    writer.append(make_episode(0, spec))
    assert writer.cache and writer.cache.lost and writer.episodes == 1 and not files(tmp_path / "d")
    assert Dataset.open(tmp_path / "d").verify() == []


def test_where_it_cannot_be(tmp_path: Path, spec: Spec):
    message = "no cache can be recorded: camera 'front' is stored as video, .*; say --images png, or leave"
    with pytest.raises(ValueError, match=message):
        DatasetWriter(tmp_path / "video", replace(spec, cameras={"front": (128, 128)}), "auto", cache=True)
    assert not (tmp_path / "video").exists()
    folder = make_dataset(tmp_path / "d", spec)
    (folder / cache.FOLDER).touch()
    grown = DatasetWriter(folder, spec, cache=True).cache
    assert grown and "cannot be written" in grown.lost
