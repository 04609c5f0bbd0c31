"""Symmetric InfoNCE that never holds the matrix of all similarities, unless it is small.

The loss needs two numbers of each pair besides its own similarity: the log-sum-exp of its row and of its column. One
pass over tiles of the matrix gives both. Only they are kept; backward computes each tile once more and takes the
gradients of both sides from it. Nothing is approximated. (Inf-CL, https://arxiv.org/abs/2410.17243; the tiled softmax
is that of FlashAttention, https://arxiv.org/abs/2205.14135.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from plait.alignment.gather import gathered, mean_over
from plait.alignment.right import Right
from plait.data.world import ALONE, World

TILE = 4096  # rows and columns: large enough for a GPU's matrix units, 64 MiB in float32
WHOLE = 8192  # pairs of which the matrix is kept: it takes 1.2 GB, and to compute four tiles twice a third more time


def info_nce(
    vision: Float[Tensor, "n d"],
    text: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    world: World = ALONE,
    right: Right | None = None,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """CLIP's loss (https://arxiv.org/abs/2103.00020): each image finds its text among all, each text its image.

    Where several texts are true of an image, each is as right as the others: the loss is the cross-entropy to targets
    that are shared evenly among the right answers (UniCL, https://arxiv.org/abs/2204.03610). With the logits s, R(i)
    the texts that are true of image i, and I(j) the images of which text j is true, it is half of

        mean_i [log sum_j exp s_ij - mean_{j in R(i)} s_ij] + mean_j [log sum_i exp s_ij - mean_{i in I(j)} s_ij],

    which is CLIP's where all R(i) = {i}. CLIP's would push away from an image all true texts but one.

    Products are computed in the type of the embeddings (under autocast, in its type), sums of exponentials in float32
    at least. Memory grows with n, not with its square.

    Several processes call this together, each with its own pairs, equally many. Each then computes its rows of the
    matrix, and gets the loss over the pairs of all. Its gradients are those whose mean over the processes is the
    gradient of that loss, as data-parallel training wants them.

    >>> vision, text = torch.eye(4), torch.eye(4)
    >>> info_nce(vision, text, torch.tensor(2.0), tile=3)  # log(e^2 + 3) - 2
    tensor(0.3408)
    >>> right = Right(torch.arange(4), torch.tensor([[0, 1], [1, 0], [2, -1], [3, -1]]))  # two of them share two texts
    >>> info_nce(vision, text, torch.tensor(2.0), right=right)  # half of the pairs: log(e^2 + 3) - (2 + 0) / 2
    tensor(0.8408)

    Args:
        vision, text: of unit length; rows of the same number belong together.
        scale: what cosines are multiplied by, 1 / temperature.
        right: the texts of this process and which of them are true of its images, each one's own among them; omitted,
            only its own is.
        tile: rows and columns that are computed at once; in one process, as many pairs are computed in the plain way.
            Omitted, tiles have 4,096, and up to 8,192 pairs are computed in the plain way.
    """
    vision, text = _as_multiplied(vision), _as_multiplied(text)
    if world.size == 1 and len(vision) <= (tile or WHOLE):
        logits = (vision * scale) @ text.T  # kept, so that nothing is computed twice
        matches = None if right is None else right.tile()
        return (one_way(logits, matches) + one_way(logits.T, None if matches is None else matches.T)) / 2
    known = None if right is None else right.gathered(world)
    own: Any = _InfoNCE.apply(vision, gathered(text, world), scale, known, world, tile or TILE)
    return mean_over(own, world)


def one_way(logits: Float[Tensor, "n n"], right: Bool[Tensor, "n n"] | None = None) -> Float[Tensor, ""]:
    """Each row finds its right columns, each as much as the others; the one on the diagonal when omitted."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if right is None:
        return cross_entropy(wide, torch.arange(len(logits), device=logits.device))
    return cross_entropy(wide, right.to(wide.dtype) / right.sum(dim=1, keepdim=True))


class _InfoNCE(torch.autograd.Function):
    """The mean over this process's pairs, from its rows and everybody's columns."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx, vision: Tensor, text: Tensor, scale: Tensor, right: Right | None, world: World, tile: int
    ) -> Tensor:
        own, scaled = len(vision), vision * scale
        wide = torch.promote_types(vision.dtype, torch.float32)
        by_row, by_column = (vision.new_full((n,), -torch.inf, dtype=wide) for n in (own, len(text)))
        of_row, of_column = (vision.new_zeros((2, n), dtype=wide) for n in (own, len(text)))  # right: sum, how many
        for rows, columns, _ in _tiles(own, len(text), world.rank * own, tile):
            logits = scaled[rows] @ text[columns].T
            by_row[rows] = torch.logaddexp(by_row[rows], _log_sum_exp(logits, 1, wide))
            by_column[columns] = torch.logaddexp(by_column[columns], _log_sum_exp(logits, 0, wide))
            if right is not None:
                matches = right.tile(rows, columns)
                for place, values in enumerate((torch.where(matches, logits, 0.0), matches)):
                    of_row[place, rows] += values.sum(dim=1, dtype=wide)
                    of_column[place, columns] += values.sum(dim=0, dtype=wide)
        if right is None:
            mine = slice(world.rank * own, (world.rank + 1) * own)
            of_row[0], of_row[1] = (scaled * text[mine]).sum(dim=1, dtype=wide), 1
            of_column[:, mine] = of_row
        by_column = gathered(by_column[None], world).logsumexp(dim=0)
        of_column = gathered(of_column[None], world).sum(dim=0)
        ctx.save_for_backward(vision, text, scale, by_row, by_column, 1 / of_row[1], 1 / of_column[1])
        ctx.right, ctx.world, ctx.tile = right, world, tile
        return (by_row - of_row[0] / of_row[1] + world.part(by_column - of_column[0] / of_column[1])).mean() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        vision, text, scale, by_row, by_column, row_share, column_share = ctx.saved_tensors
        own, scaled = len(vision), vision * scale
        to_vision, to_text = (torch.zeros_like(each, dtype=by_row.dtype) for each in (vision, text))
        for rows, columns, shift in _tiles(own, len(text), ctx.world.rank * own, ctx.tile):
            # both softmaxes at once: exp(s - r) + exp(s - c) = exp(s + log(exp(-r) + exp(-c)))
            weights = torch.logaddexp(-by_row[rows, None], -by_column[None, columns])
            weights.add_(scaled[rows] @ text[columns].T).exp_()
            if ctx.right is None:
                weights.diagonal(shift).sub_(2)  # empty where the tile has no pair; each share is 1
            else:
                weights.sub_((row_share[rows, None] + column_share[columns]).mul_(ctx.right.tile(rows, columns)))
            weights = weights.to(vision.dtype)
            to_vision[rows].add_(weights @ text[columns])
            to_text[columns].add_(weights.T @ scaled[rows])
        share = gradient / (2 * own)
        to_scale = share * (to_vision * vision).sum()
        to_vision, to_text = to_vision.mul_(share * scale), to_text.mul_(share)
        return to_vision.to(vision.dtype), to_text.to(text.dtype), to_scale.to(scale.dtype), None, None, None


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
