"""Symmetric InfoNCE that never holds the matrix of all similarities, unless it is small.

The loss needs two numbers of each pair besides its own similarity: the log-sum-exp of its row and of its column. One
pass over tiles of the matrix gives both. Only they are kept; backward computes each tile once more and takes the
gradients of both sides from it. Nothing is approximated. (Inf-CL, https://arxiv.org/abs/2410.17243; the tiled softmax
is that of FlashAttention, https://arxiv.org/abs/2205.14135.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from plait.alignment.gather import gathered, mean_over
from plait.data.world import ALONE, World

TILE = 4096  # rows and columns: large enough for a GPU's matrix units, 64 MiB in float32


def info_nce(
    vision: Float[Tensor, "n d"],
    text: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    world: World = ALONE,
    tile: int = TILE,
) -> Float[Tensor, ""]:
    """CLIP's loss (https://arxiv.org/abs/2103.00020): each image finds its text among all, each text its image.

    Products are computed in the type of the embeddings (under autocast, in its type), sums of exponentials in float32
    at least. Memory grows with n, not with its square.

    Several processes call this together, each with its own pairs, equally many. Each then computes its rows of the
    matrix, and gets the loss over the pairs of all. Its gradients are those whose mean over the processes is the
    gradient of that loss, as data-parallel training wants them.

    >>> vision, text = torch.eye(4), torch.eye(4)
    >>> info_nce(vision, text, torch.tensor(2.0), tile=3)  # log(e^2 + 3) - 2
    tensor(0.3408)

    Args:
        vision, text: of unit length; rows of the same number belong together.
        scale: what cosines are multiplied by, 1 / temperature.
        tile: rows and columns that are computed at once; in one process, as many pairs are computed in the plain way.
    """
    vision, text = _as_multiplied(vision), _as_multiplied(text)
    if world.size == 1 and len(vision) <= tile:
        logits = (vision * scale) @ text.T  # one tile, which may be kept: nothing is computed twice
        return (one_way(logits) + one_way(logits.T)) / 2
    own: Any = _InfoNCE.apply(vision, gathered(text, world), scale, world, tile)
    return mean_over(own, world)


def one_way(logits: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Each row finds its column."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return cross_entropy(wide, torch.arange(len(logits), device=logits.device))


class _InfoNCE(torch.autograd.Function):
    """The mean over this process's pairs, from its rows and everybody's columns."""

    @staticmethod
    def forward(ctx, vision: Tensor, text: Tensor, scale: Tensor, world: World, tile: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        own, scaled = len(vision), vision * scale
        wide = torch.promote_types(vision.dtype, torch.float32)
        matched = vision.new_empty(own, dtype=wide)
        by_row, by_column = (vision.new_full((n,), -torch.inf, dtype=wide) for n in (own, len(text)))
        for rows, columns, shift in _tiles(own, len(text), world.rank * own, tile):
            logits = scaled[rows] @ text[columns].T
            by_row[rows] = torch.logaddexp(by_row[rows], _log_sum_exp(logits, 1, wide))
            by_column[columns] = torch.logaddexp(by_column[columns], _log_sum_exp(logits, 0, wide))
            pairs, first = logits.diagonal(shift), rows.start + max(0, -shift)
            matched[first : first + len(pairs)] = pairs
        by_column = gathered(by_column[None], world).logsumexp(dim=0)
        ctx.save_for_backward(vision, text, scale, by_row, by_column)
        ctx.world, ctx.tile = world, tile
        return ((by_row + world.part(by_column)) / 2 - matched).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        vision, text, scale, by_row, by_column = ctx.saved_tensors
        own, scaled = len(vision), vision * scale
        to_vision, to_text = (torch.zeros_like(each, dtype=by_row.dtype) for each in (vision, text))
        for rows, columns, shift in _tiles(own, len(text), ctx.world.rank * own, ctx.tile):
            # both softmaxes at once: exp(s - r) + exp(s - c) = exp(s + log(exp(-r) + exp(-c)))
            weights = torch.logaddexp(-by_row[rows, None], -by_column[None, columns])
            weights.add_(scaled[rows] @ text[columns].T).exp_()
            weights.diagonal(shift).sub_(2)
            weights = weights.to(vision.dtype)
            to_vision[rows].add_(weights @ text[columns])
            to_text[columns].add_(weights.T @ scaled[rows])
        share = gradient / (2 * own)
        to_scale = share * (to_vision * vision).sum()
        to_vision, to_text = to_vision.mul_(share * scale), to_text.mul_(share)
        return to_vision.to(vision.dtype), to_text.to(text.dtype), to_scale.to(scale.dtype), None, None


def _tiles(height: int, width: int, first: int, side: int) -> Iterator[tuple[slice, slice, int]]:
    """Rows, columns, and which diagonal of the tile holds the pairs, when row 0 belongs to column ``first``."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            rows, columns = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            yield rows, columns, first + top - left


def _log_sum_exp(logits: Float[Tensor, "r c"], dim: int, wide: torch.dtype) -> Float[Tensor, " n"]:
    """In the wider type."""
    top = logits.amax(dim, keepdim=True).to(wide)
    return (logits - top).exp_().sum(dim).log_().add_(top.squeeze(dim))


def _as_multiplied(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """In the type that autocast multiplies in, so that backward, where it is off, computes the same tiles."""
    kind = rows.device.type
    if torch.is_autocast_enabled(kind) and rows.dtype != torch.float64:
        return rows.to(torch.get_autocast_dtype(kind))
    return rows
