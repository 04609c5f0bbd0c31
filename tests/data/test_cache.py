import errno
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from plait.data import cache
from plait.data.images import resize
from plait.data.lerobot import Dataset
from plait.spec import Spec

from .conftest import make_dataset, make_episode, make_spec


@pytest.fixture
def dataset(tmp_path: Path, spec: Spec) -> Dataset:
    return Dataset.open(make_dataset(tmp_path / "d", spec))


def files(dataset: Dataset) -> list[str]:
    return sorted(file.name for file in (dataset.path / cache.FOLDER).glob("*") if file.name != ".gitignore")


@pytest.mark.parametrize("images", ["png", "video"])
def test_cached_and_decoded_images_are_the_same(tmp_path: Path, images: str):
    dataset = Dataset.open(make_dataset(tmp_path / "d", make_spec(32), images))
    indices = np.random.default_rng(0).permutation(len(dataset))
    cached, plain = (cache.Images(dataset, ["front", "wrist"], (24, 24), use) for use in (True, False))
    assert isinstance(cached.arrays["front"], np.memmap) and not plain.arrays
    for camera in ("front", "wrist"):
        expected = resize(dataset.images(camera, indices), (24, 24))
        assert torch.equal(cached.read(camera, torch.tensor(indices)), expected)
        assert torch.equal(plain.read(camera, torch.tensor(indices)), expected)


def test_it_is_built_once_for_each_size(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    first = cache.build(dataset, "front", (16, 16))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_decode", None)
        again = cache.build(Dataset.open(dataset.path), "front", (16, 16))
    assert first is not None and again is not None and np.array_equal(first, again)
    cache.build(dataset, "front", (8, 8))
    assert len(files(dataset)) == 2


def test_git_leaves_it_alone(dataset: Dataset):
    cache.build(dataset, "front", (8, 8))
    subprocess.run(["git", "init", "--quiet", dataset.path], check=True)
    told = subprocess.run(["git", "-C", dataset.path, "status", "--short"], capture_output=True, text=True, check=True)
    assert "meta/" in told.stdout and cache.FOLDER not in told.stdout


def test_it_is_rebuilt_when_the_dataset_has_changed(dataset: Dataset, spec: Spec):
    cache.build(dataset, "front", (16, 16))
    (old,) = files(dataset)
    shutil.rmtree(dataset.path / "data"), shutil.rmtree(dataset.path / "meta")
    kept = dataset.path / cache.FOLDER
    shutil.move(kept, dataset.path.parent / "kept")
    make_dataset(dataset.path, spec, episodes=2)
    shutil.move(dataset.path.parent / "kept", kept)
    array = cache.build(Dataset.open(dataset.path), "front", (16, 16))
    assert array is not None and len(array) == 12
    assert old not in files(dataset) and len(files(dataset)) == 1


def test_a_half_written_one_is_never_used(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    def breaks(self, **_):
        yield np.arange(2), make_episode(0, dataset.spec).images["front"][:2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(dataset.frames["front"]), "in_order", breaks)
        with pytest.raises(KeyboardInterrupt):
            cache.build(dataset, "front", (16, 16))
    assert files(dataset) == []
    array = cache.build(dataset, "front", (16, 16))
    assert array is not None and np.array_equal(array, dataset.images("front", range(len(dataset))))


@pytest.mark.parametrize("damage", [b"", b"no array at all", b"PK\x03\x04", "cut", "of another shape"])
def test_a_damaged_one_is_built_again(dataset: Dataset, damage: bytes | str):
    first = cache.build(dataset, "front", (16, 16))
    assert first is not None
    (name,) = files(dataset)
    path, expected = dataset.path / cache.FOLDER / name, first.copy()
    if damage == "of another shape":
        np.save(path, np.zeros((2, 16, 16, 3), np.uint8))
    else:
        path.write_bytes(path.read_bytes()[:-10] if isinstance(damage, str) else damage)
    again = cache.build(dataset, "front", (16, 16))
    assert again is not None and np.array_equal(again, expected)


def test_without_room_images_are_decoded_at_each_access(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(dataset.path)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    images = cache.Images(dataset, ["front"], (16, 16))
    assert images.arrays["front"] is None and files(dataset) == []
    assert torch.equal(images.read("front", torch.tensor([3])), dataset.images("front", [3]))


def test_a_disk_that_fills_up_meanwhile_is_no_error(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    assert cache.build(dataset, "front", (16, 16)) is None and files(dataset) == []


def test_two_builders_do_not_spoil_each_other(dataset: Dataset):
    with ThreadPoolExecutor(2) as pool:
        code = f"cache.build(Dataset.open({str(dataset.path)!r}), 'front', (16, 16))"
        code = f"from plait.data import cache; from plait.data.lerobot import Dataset; {code}"
        runs = [pool.submit(subprocess.run, [sys.executable, "-c", code], check=True) for _ in range(2)]
        assert all(run.result().returncode == 0 for run in runs)
    (name,) = files(dataset)
    array = np.load(dataset.path / cache.FOLDER / name)
    assert np.array_equal(array, dataset.images("front", range(len(dataset))))


def test_a_dataset_that_cannot_be_written_is_cached_in_the_users_folder(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(
        cache, "writable", lambda folder: dataset.path not in folder.parents and not folder.mkdir(parents=True)
    )
    array = cache.build(dataset, "front", (16, 16))
    assert array is not None and not (dataset.path / cache.FOLDER).exists()
    assert len(list((tmp_path / "xdg/plait").rglob("front-16x16-*.npy"))) == 1


def test_copying_read_only_images_warns_of_nothing():
    images = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    images.flags.writeable = False  # as those of a file in memory are
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied = cache._copy(images, torch.device("cpu"))
    assert torch.equal(copied, torch.tensor(images))
