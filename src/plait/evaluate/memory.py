"""Arrays that the processes of a pool share, in a file without a name: even a ``kill -9`` leaves nothing behind."""

import mmap
import os
import tempfile
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import gymnasium
import numpy as np

from plait.data.keys import ACTION, IMAGE_PREFIX, STATE


@dataclass(frozen=True)
class Layout:
    """Which arrays there are: name -> shape ``[slots, ...]``. Pictures are uint8, everything else is float32."""

    shapes: dict[str, tuple[int, ...]]

    def dtype(self, name: str) -> np.dtype:
        return np.dtype(np.uint8 if name.startswith(IMAGE_PREFIX) else np.float32)

    def room(self, name: str) -> int:
        """The room that an array takes: whole lines of the processor's cache, so that every array begins with one."""
        return -(-prod(self.shapes[name]) * self.dtype(name).itemsize // 64) * 64

    def fit(self, descriptor: int) -> None:
        """Make the open file large enough for all arrays."""
        size = sum(map(self.room, self.shapes))
        if os.fstat(descriptor).st_size < size:  # never smaller: others may look at what is there
            os.ftruncate(descriptor, size)


def layout_of(env: gymnasium.Env, slots: int, execute: int) -> Layout:
    """What ``env`` observes (``observation.*``), and ``action`` ``[slots, execute, a]``.

    Raises:
        ValueError: its spaces are not those of LeRobot.
    """
    shapes = _observed(env) | {ACTION: (execute, *_acted(env))}
    return Layout({name: (slots, *shape) for name, shape in shapes.items()})


def allocate() -> BinaryIO:
    """An open, empty file, which vanishes when the last process has closed it."""
    linux = hasattr(os, "memfd_create")
    return open(os.memfd_create("plait"), "w+b") if linux else tempfile.TemporaryFile()


def attach(descriptor: int, layout: Layout) -> dict[str, np.ndarray]:
    """Name -> array over the memory of the open file, which is large enough; it may be closed afterwards."""
    memory, start, arrays = mmap.mmap(descriptor, 0), 0, {}
    for name, shape in layout.shapes.items():
        arrays[name] = np.frombuffer(memory, layout.dtype(name), prod(shape), start).reshape(shape)
        start += layout.room(name)
    return arrays


def _observed(env: gymnasium.Env) -> dict[str, tuple[int, ...]]:
    space = env.observation_space
    parts = dict(space.items()) if isinstance(space, gymnasium.spaces.Dict) else {}
    shapes = {key: tuple(box.shape or ()) for key, box in parts.items() if key == STATE or key.startswith(IMAGE_PREFIX)}
    if not shapes:
        raise ValueError(
            f"the environment observes {space}; expected a Dict with '{IMAGE_PREFIX}<camera>' (uint8 [h, w, 3]) and "
            f"'{STATE}' (float [s]): put a gymnasium.ObservationWrapper around it that renames its parts"
        )
    return shapes


def _acted(env: gymnasium.Env) -> tuple[int]:
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"the environment acts in {space}; expected a Box of one dimension")
    return space.shape
