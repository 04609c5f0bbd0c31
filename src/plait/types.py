"""The shapes that cross a boundary: tokens, observations, inputs, batches.

Everything is batched. ``True`` in a mask means *valid*, everywhere. Modalities are named as in ``plait.spec``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """What a part declares about its output when it is built: at most ``n`` tokens of width ``dim``.

    Attributes:
        grid: (rows, columns) when the tokens tile an image.
        modalities: of fused tokens, the one that each tells of most; empty where none does.
    """

    n: int
    dim: int
    grid: tuple[int, int] | None = None
    modalities: tuple[str, ...] = ()


Mask = Bool[Tensor, "b _"] | Int[Tensor, "b _"]  # True, or 1: valid


@dataclass(frozen=True)
class Tokens:
    """A group of tokens. Where ``mask`` is False, nothing may depend on ``data``, not even on a NaN."""

    data: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    grid: tuple[int, int] | None = None  # (rows, columns) when the tokens tile an image, row by row

    @classmethod
    def valid(cls, data: Float[Tensor, "b n d"], grid: tuple[int, int] | None = None) -> "Tokens":
        """Tokens that all count."""
        return cls(data, torch.ones(data.shape[:2], dtype=torch.bool, device=data.device), grid)

    @classmethod
    def of(cls, data: Float[Tensor, "b n d"], mask: Mask | None, grid: tuple[int, int] | None = None) -> "Tokens":
        """Tokens whose mask may be left out, or be of whole numbers, see ``flags``."""
        return cls.valid(data, grid) if mask is None else cls(data, flags(mask), grid)

    def cleaned(self) -> Float[Tensor, "b n d"]:
        """The data with masked positions set to zero (``where``, not a product: 0 * NaN is NaN)."""
        return torch.where(self.mask[..., None], self.data, 0.0)

    def as_map(self) -> Float[Tensor, "b d rows columns"]:
        """The cleaned data of image tokens as a feature map."""
        assert self.grid is not None, "only tokens with a grid tile an image"
        return rearrange(self.cleaned(), "b (rows columns) d -> b d rows columns", rows=self.grid[0])


def flags(mask: Tensor) -> Bool[Tensor, "b n"]:
    """A mask of True and False, also of one of 1 and 0, as Hugging Face's ``attention_mask`` is.

    Raises:
        ValueError: a mask of fractions or of other numbers, such as are added to scores: in those, 0 means valid.
    """
    rule = "it must be True or 1 where a token is valid, else False or 0"
    if mask.is_floating_point():
        raise ValueError(f"mask of {mask.dtype}: {rule}")
    if mask.dtype != torch.bool:
        check_below(2, mask, "mask", rule)
    return mask.bool()


def check_below(end: int, numbers: Tensor, name: str, rule: str) -> None:
    """Refuse whole numbers outside [0, end); while a graph is compiled or captured, none can be looked at.

    Raises:
        ValueError: names the first of them.
    """
    if torch.compiler.is_compiling() or (numbers.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    outside = numbers[(numbers < 0) | (numbers.long() >= end)]
    if len(outside):
        raise ValueError(f"{name} with {outside[0].item()}: {rule}")


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

    Attributes:
        window: bool ``[rows, moments]``, for a policy with memory: each row of a training batch is a window of so many
            moments, the oldest first, which stand in the other fields as ``rows * moments`` rows; False before the
            episode's start. None: every row is a single moment.
        told: the words' features, where they are encoded already (``Policy.tell``).
    """

    images: dict[str, UInt8[Tensor, "b h w 3"]]
    state: Float[Tensor, "b s"]
    words: Int[Tensor, "b l"]
    word_mask: Bool[Tensor, "b l"]
    present: dict[str, Bool[Tensor, " b"]]
    window: Bool[Tensor, "rows moments"] | None = None
    told: Float[Tensor, "b l d"] | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Inputs":
        move = lambda value: _map_tensors(value, lambda t: t.to(device, non_blocking=non_blocking))  # noqa: E731
        return Inputs(**{f.name: move(getattr(self, f.name)) for f in fields(self)})

    def split(self, most: int) -> Iterator["Inputs"]:
        """At most so many rows at a time; of single moments only."""
        assert self.window is None, "a window is not a row"
        for start in range(0, len(self.state), most):
            cut = lambda value: _map_tensors(value, lambda t: t[start : start + most])  # noqa: B023, E731
            yield Inputs(**{f.name: cut(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Batch:
    """One training batch: inputs, the chunk of actions that follows each, and optional extra targets.

    Attributes:
        action: float ``[b, horizon, a]`` in the units of the ``Spec`` (the policy normalises).
        action_mask: bool ``[b, horizon]``, False after the episode's end.
        keyframe: float ``[b, k, 3]``, the hand's position at the gripper's next k changes; None where the dataset does
            not tell.
        keyframe_mask: bool ``[b, k]``, False where not so many follow.
        action_valid, keyframe_valid: of a batch that is spread over several processes, how often each column of the
            mask is True per process, on average; None in one process.
    """

    inputs: Inputs
    action: Float[Tensor, "b horizon a"]
    action_mask: Bool[Tensor, "b horizon"]
    keyframe: Float[Tensor, "b k 3"] | None = None
    keyframe_mask: Bool[Tensor, "b k"] | None = None
    action_valid: Float[Tensor, " horizon"] | None = None
    keyframe_valid: Float[Tensor, " k"] | None = None

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


# torch.export and CUDA graphs look inside dataclasses only when they know them.
torch.export.register_dataclass(Inputs)
torch.export.register_dataclass(Batch)
