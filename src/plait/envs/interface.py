"""What plait's environments have in common: their spaces, and how actions, sizes and reset's options are checked."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plait.config import unknown
from plait.spec import Spec

Result = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def pixels(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of pictures, of which one number gives both.

    Raises:
        ValueError: not that many pixels.
    """
    pixels = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pixels) != 2 or not all(isinstance(length, (int, np.integer)) and 0 < length <= 4096 for length in pixels):
        raise ValueError(f"size: {size!r} pixels; give one whole number or (height, width), each from 1 to 4096")
    return pixels


def observation_space(spec: Spec) -> spaces.Dict:
    """LeRobot's keys: ``observation.images.<camera>`` (uint8 ``[h, w, 3]``) and ``observation.state``."""
    images = {
        f"observation.images.{name}": spaces.Box(0, 255, (*size, 3), np.uint8) for name, size in spec.cameras.items()
    }
    state = spaces.Box(-np.inf, np.inf, (len(spec.state),), np.float32)
    return spaces.Dict({**images, "observation.state": state})


def clipped(actions: NDArray[np.floating], entries: int) -> NDArray[np.float64]:
    """``[k, entries]``, each number in [-1, 1].

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    actions = np.asarray(actions, np.float64)
    if actions.ndim != 2 or actions.shape[1] != entries or not np.isfinite(actions).all():
        raise ValueError(
            f"actions of shape {actions.shape}: expected k times {entries} finite numbers, each in [-1, 1]"
        )
    return np.clip(actions, -1.0, 1.0)


def instruction_option(options: dict[str, Any], known: Iterable[str]) -> str:
    """What ``options`` of ``reset`` say of the instruction. (``"number"``, the episode's, is the other option.)

    Raises:
        ValueError: an unknown option, or an instruction that is not ``known``.
    """
    for key in options:
        if key not in ("instruction", "number"):
            raise unknown("reset option", key, ["instruction", "number"])
    instruction = options.get("instruction", "normal")
    if instruction not in known:
        raise unknown("instruction", instruction, known)
    return instruction
