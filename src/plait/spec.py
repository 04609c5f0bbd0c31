"""The embodiment: which modalities there are, and what their numbers mean. Loads no torch, so simulators stay light.

A modality is named by a string: ``images.<camera>``, ``state`` or ``instruction``; groups of tokens, ``present`` flags
and reports use these names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

STATE = "state"
INSTRUCTION = "instruction"
CAMERA_PREFIX = "images."
ROUNDING = 0.05  # of an image's height by width


def camera_modality(camera: str) -> str:
    """The modality's name of a camera: ``front`` -> ``images.front``."""
    return CAMERA_PREFIX + camera


def camera_name(modality: str) -> str:
    """The camera of a modality: ``images.front`` -> ``front``."""
    return modality.removeprefix(CAMERA_PREFIX)


def level_group(modality: str, level: int) -> str:
    """The group of a camera's tokens at another resolution: ``images.front@1``; level 0 has the camera's own name."""
    return f"{modality}@{level}" if level else modality


def group_modality(group: str) -> str:
    """The modality that a group of tokens comes from: ``images.front@1`` -> ``images.front``."""
    return group.partition("@")[0]


def is_camera(modality: str) -> bool:
    return modality.startswith(CAMERA_PREFIX)


def module_name(modality: str) -> str:
    """The modality's name inside a module's parameters, which cannot hold a dot."""
    return modality.replace(".", "_")


@dataclass(frozen=True)
class Spec:
    """The embodiment: what is seen, what is felt, what is commanded, in which units and conventions.

    Environments, datasets and checkpoints each yield one; ``differences`` is the only comparison.

    Attributes:
        cameras: camera -> (height, width) in pixels.
        state: name of each state entry, in order.
        actions: name of each action entry, in order.
        action_low, action_high: limits per entry, or None when unknown.
        state_units, action_units: unit of each entry, for people to read.
        action_kind: ``"delta"`` or ``"absolute"``.
        rotation: ``"axis_angle"``, ``"euler_xyz"``, ``"quaternion_xyzw"``, ``"rotation_6d"`` or ``"none"``.
        gripper: ``"positive_closes"``, ``"positive_opens"`` or ``"none"``.
        rate: control steps per second.
    Every convention may be None: unknown, and then not compared.
    """

    cameras: dict[str, tuple[int, int]]
    state: tuple[str, ...]
    actions: tuple[str, ...]
    action_low: tuple[float, ...] | None = None
    action_high: tuple[float, ...] | None = None
    state_units: tuple[str, ...] | None = None
    action_units: tuple[str, ...] | None = None
    action_kind: str | None = None
    rotation: str | None = None
    gripper: str | None = None
    rate: float | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Every modality that this embodiment can deliver, cameras first."""
        return (*map(camera_modality, self.cameras), *([STATE] if self.state else []), INSTRUCTION)

    @property
    def position(self) -> tuple[int, ...] | None:
        """Where the hand's x, y, z stand in the state (``hand_x``, ``ee.x`` and the like included); None if unnamed."""
        ends = [re.split(r"[._ ]", name.lower())[-1] for name in self.state]
        return tuple(map(ends.index, "xyz")) if all(ends.count(axis) == 1 for axis in "xyz") else None

    def clipped(self, actions: Any) -> Any:
        """Actions ``[..., a]`` within ``action_low`` and ``action_high``, where these are known."""
        low, high = (-np.inf if self.action_low is None else self.action_low), self.action_high
        return np.clip(actions, low, np.inf if high is None else high).astype(np.float32)

    def resized(self, size: int) -> "Spec":
        """The same embodiment seen through square images of ``size`` pixels."""
        return replace(self, cameras={camera: (size, size) for camera in self.cameras})

    def squeezed(self, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
        """One sentence per camera whose pictures, (height, width), have another shape than those of this embodiment:
        ``Policy.prepare`` makes both the same square, so what is round for one is oval for the other.
        """
        return [
            f"camera {camera!r}: pictures of {height} x {width} (height x width) have another shape than those of the "
            f"training, {self.cameras[camera][0]} x {self.cameras[camera][1]}, and look squeezed to the policy; crop "
            "them to that shape"
            for camera, (height, width) in sizes.items()
            if camera in self.cameras and _other_shape((height, width), self.cameras[camera])
        ]

    def differences(self, other: "Spec", mine: str = "this", theirs: str = "the other") -> list[str]:
        """One sentence per difference that would make a policy of one misbehave on the other; [] when none.

        Image sizes are not compared: ``Policy.prepare`` resizes. ``squeezed`` compares their shapes.
        """
        rows = [
            _missing("camera", self.cameras, other.cameras, mine, theirs),
            _missing("camera", other.cameras, self.cameras, theirs, mine),
        ]
        for name in ("state", "actions", "state_units", "action_units", "action_kind", "rotation", "gripper", "rate"):
            a, b = getattr(self, name), getattr(other, name)
            if a is not None and b is not None and a != b:
                rows.append(f"{name}: {mine} has {_show(a)}, {theirs} has {_show(b)}")
        for name in ("action_low", "action_high"):
            a, b = getattr(self, name), getattr(other, name)
            if a is not None and b is not None and len(a) == len(b) and not np.allclose(a, b):
                rows.append(f"{name}: {mine} has {_show(a)}, {theirs} has {_show(b)}")
        return [row for row in rows if row]


def _other_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether height by width differ by more than rounding does."""
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) > ROUNDING


def _missing(what: str, wanted: Any, available: Any, mine: str, theirs: str) -> str:
    names = [name for name in wanted if name not in available]
    return f"{what} {', '.join(map(repr, names))}: in {mine}, not in {theirs}" if names else ""


def _show(value: Any) -> str:
    return f"{len(value)} entries ({', '.join(map(str, value))})" if isinstance(value, tuple) else repr(value)
