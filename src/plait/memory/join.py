"""Where a memory meets a policy: it remembers each moment's fused tokens, and its answer joins them as one more."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from plait.memory.history import History, MemoryPart
from plait.types import Shape, Tokens


def joined_shape(shape: Shape) -> Shape:
    """What the head is built from, where the fusion's tokens are of ``shape``."""
    return Shape(shape.n + 1, shape.dim)


def remember(memory: MemoryPart, tokens: Tokens, state: History, reset: Bool[Tensor, " b"]) -> tuple[Tokens, History]:
    """The fused tokens of this moment and the memory's one, and what is remembered from here on.

    Args:
        reset: True for each row whose episode begins now.
    """
    answer, state = memory(_features(tokens)[:, None], state, reset[:, None])
    mask = torch.cat([tokens.mask, torch.ones_like(tokens.mask[:, :1])], dim=1)
    return Tokens(torch.cat([tokens.data, answer], dim=1), mask), state


def remember_window(memory: MemoryPart, tokens: Tokens, window: Bool[Tensor, "b t"] | None) -> Tokens:
    """The same for a window of t moments, which gives its last one what acting through the window gives.

    Args:
        tokens: of each row's moments, the oldest first: ``b * t`` rows.
        window: False before the episode's start; None where each row is the first moment of its episode.
    """
    window = tokens.mask.new_ones(len(tokens.mask), 1) if window is None else window
    rows, moments = window.shape
    reset = ~window.roll(1, dims=1)  # what follows a moment that is not valid begins the episode
    features = rearrange(_features(tokens), "(b t) f -> b t f", t=moments)
    before = memory.start(rows).after(features[:, :-1], reset[:, :-1])
    last = Tokens(tokens.data[moments - 1 :: moments], tokens.mask[moments - 1 :: moments])
    return remember(memory, last, before, reset[:, -1])[0]


def _features(tokens: Tokens) -> Float[Tensor, "b f"]:
    return tokens.cleaned().flatten(1)
