"""Small demonstrations whose every number can be predicted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from plait.data import finalize
from plait.data.episode import Episode
from plait.data.writer import DatasetWriter
from plait.spec import Spec

LENGTHS = (7, 5, 9, 6)
SENTENCES = ("pick up the red ball", "pick up the blue cube", "put the ball in the bowl", "pick up the red ball")


def make_spec(size: int = 16, cameras: tuple[str, ...] = ("front", "wrist"), state: bool = True) -> Spec:
    return Spec(
        cameras=dict.fromkeys(cameras, (size, size)),
        state=("x", "y", "z") if state else (),
        actions=("dx", "dy", "gripper"),
        action_low=(-1.0,) * 3,
        action_high=(1.0,) * 3,
        action_kind="delta",
        rotation="none",
        gripper="positive_closes",
        rate=10.0,
    )


def make_episode(index: int, spec: Spec) -> Episode:
    """Frame t of an episode has its own grey ramp, state (t, index, 1/2) and closes the gripper from step 3 on."""
    n, t = LENGTHS[index], np.arange(LENGTHS[index])
    images = {}
    for number, (camera, (h, w)) in enumerate(spec.cameras.items()):
        images[camera] = np.zeros((n, h, w, 3), np.uint8)
        images[camera][:, :, : w // 2] = (20 + 10 * t + 5 * number)[:, None, None, None]
        images[camera][:, :, w // 2 :] = (30 + 40 * index + 15 * number,) * 3
    state = np.stack([t, np.full(n, index), np.full(n, 0.5)], 1).astype(np.float32) if spec.state else None
    action = np.stack([t / 10, np.full(n, index / 10), np.where(t >= 3, 1.0, -1.0)], 1).astype(np.float32)
    return Episode(images, state, action, SENTENCES[index], {"seed": 1000 + index})


def make_dataset(folder: Path, spec: Spec, images: str = "png", episodes: int = 4, finalize: bool = True) -> Path:
    writer = DatasetWriter(folder, spec, images)
    for index in range(episodes):
        writer.append(make_episode(index, spec))
    if finalize:
        writer.finalize()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset, caches left out."""
    files = [file for file in folder.rglob("*") if file.is_file() and ".plait-cache" not in file.parts]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


class Killed(BaseException):
    """What a kill is to the test: nothing after it runs, no handler catches it."""


@contextmanager
def kill_before_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """The process ends just before its ``number``-th rename: every file lives or does not live by one."""
    count = 0

    def counted(original):
        def rename(path: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count > number:
                raise Killed
            return original(path, target)

        return rename

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        patch.setattr(finalize.shutil, "rmtree", lambda *_, **__: None)
        yield


@pytest.fixture
def spec() -> Spec:
    return make_spec()
