"""The shapes that cross a boundary: tokens, observations, inputs, batches, and the embodiment they belong to.

Everything is batched. ``True`` in a mask means *valid*, everywhere. A modality is named by a string:
``images.<camera>``, ``state`` or ``instruction``; groups of tokens, ``present`` flags and reports use these names.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

STATE = "state"
INSTRUCTION = "instruction"
CAMERA_PREFIX = "images."


def camera_modality(camera: str) -> str:
    """The modality's name of a camera: ``front`` -> ``images.front``."""
    return CAMERA_PREFIX + camera


def is_camera(modality: str) -> bool:
    return modality.startswith(CAMERA_PREFIX)


def module_name(modality: str) -> str:
    """The modality's name inside a module's parameters, which cannot hold a dot."""
    return modality.replace(".", "_")


@dataclass(frozen=True)
class Shape:
    """What a part declares about its output when it is built: at most ``n`` tokens of width ``dim``."""

    n: int
    dim: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class Tokens:
    """A group of tokens. Where ``mask`` is False, nothing may depend on ``data``, not even on a NaN."""

    data: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    grid: tuple[int, int] | None = None  # (rows, columns) when the tokens tile an image, row by row

    def cleaned(self) -> Float[Tensor, "b n d"]:
        """The data with masked positions set to zero (``where``, not a product: 0 * NaN is NaN)."""
        return torch.where(self.mask[..., None], self.data, 0.0)

    def as_map(self) -> Float[Tensor, "b d rows columns"]:
        """The cleaned data of image tokens as a feature map."""
        assert self.grid is not None, "only tokens with a grid tile an image"
        return rearrange(self.cleaned(), "b (rows columns) d -> b d rows columns", rows=self.grid[0])


@dataclass(frozen=True)
class Fused:
    """What a fusion returns. ``losses`` join the head's loss; ``reads`` is filled only on request."""

    tokens: Tokens
    losses: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    reads: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class FusionPart(Protocol):
    """What a fusion module offers: groups of tokens in, by modality; few fused tokens out."""

    shape: Shape

    def __call__(self, groups: dict[str, Tokens], reads: bool = False) -> Fused: ...


@runtime_checkable
class HeadPart(Protocol):
    """What a head offers, in normalised units."""

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]: ...

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]: ...


@dataclass(frozen=True)
class Observation:
    """What a robot, an environment or a dataset gives: raw values for b moments.

    Attributes:
        images: camera -> uint8 ``[b, height, width, 3]``, RGB, any size (numpy or torch).
        state: float ``[b, s]`` in the units of the ``Spec``, or None.
        instruction: b sentences; ``""`` means that none was given.
        present: modality -> bool ``[b]``. A modality that is not listed is present when its value is there.
    """

    images: dict[str, Any]
    state: Any
    instruction: list[str]
    present: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.instruction)


@dataclass(frozen=True)
class Inputs:
    """What a policy computes with: tensors only, so that forward can be compiled, exported and captured.

    Images stay uint8, height-width-channel (which is channels-last memory), until the vision encoder.
    """

    images: dict[str, UInt8[Tensor, "b h w 3"]]
    state: Float[Tensor, "b s"]
    words: Int[Tensor, "b l"]
    word_mask: Bool[Tensor, "b l"]
    present: dict[str, Bool[Tensor, " b"]]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Inputs":
        move = lambda value: _map_tensors(value, lambda t: t.to(device, non_blocking=non_blocking))  # noqa: E731
        return Inputs(**{f.name: move(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Batch:
    """One training batch: inputs, the chunk of actions that follows each, and optional extra targets.

    Attributes:
        action: float ``[b, horizon, a]`` in the units of the ``Spec`` (the policy normalises).
        action_mask: bool ``[b, horizon]``, False after the episode's end.
        grasp: float ``[b, 3]``, the hand's position at the episode's next gripper closing.
        grasp_mask: bool ``[b]``, False where there is none.
    """

    inputs: Inputs
    action: Float[Tensor, "b horizon a"]
    action_mask: Bool[Tensor, "b horizon"]
    grasp: Float[Tensor, "b 3"] | None = None
    grasp_mask: Bool[Tensor, " b"] | None = None

    def __len__(self) -> int:
        return len(self.action)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        move = lambda value: _map_tensors(value, lambda t: t.to(device, non_blocking=non_blocking))  # noqa: E731
        rest = {f.name: move(getattr(self, f.name)) for f in fields(self) if f.name != "inputs"}
        return Batch(inputs=self.inputs.to(device, non_blocking), **rest)


def _map_tensors(value: Any, function: Any) -> Any:
    if isinstance(value, dict):
        return {key: function(item) for key, item in value.items()}
    return None if value is None else function(value)


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
        """Where the hand's x, y, z stand in the state, or None when the state does not name them."""
        try:
            return tuple(self.state.index(axis) for axis in ("x", "y", "z"))
        except ValueError:
            return None

    def resized(self, size: int) -> "Spec":
        """The same embodiment seen through square images of ``size`` pixels."""
        return replace(self, cameras={camera: (size, size) for camera in self.cameras})

    def differences(self, other: "Spec", mine: str = "this", theirs: str = "the other") -> list[str]:
        """One sentence per difference that would make a policy of one misbehave on the other; [] when none.

        Image sizes are not compared: ``Policy.prepare`` resizes.
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


def _missing(what: str, wanted: Any, available: Any, mine: str, theirs: str) -> str:
    names = [name for name in wanted if name not in available]
    return f"{what} {', '.join(map(repr, names))}: in {mine}, not in {theirs}" if names else ""


def _show(value: Any) -> str:
    return f"{len(value)} entries ({', '.join(map(str, value))})" if isinstance(value, tuple) else repr(value)


# torch.export takes dataclasses only when it knows them.
torch.export.register_dataclass(Inputs)
