"""Retrieval both ways, where several answers may be right."""

from collections.abc import Hashable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Groups = Tensor | Sequence[Hashable]
CHUNK = 1024  # queries that are compared at once
TIE = 1e-12  # far above rounding in float64, far below what tells two embeddings apart


def retrieval(
    vision: Float[Tensor, "n d"], text: Float[Tensor, "n d"], groups: Groups | None = None
) -> Iterator[tuple[str, float]]:
    """For both ways ``<way>_r1``, ``_r5``, ``_r10``, the share of queries with a right answer among the first k, and
    ``<way>_median_rank``, the median place of the first right answer; 1 is best.

    Args:
        vision, text: float64, of unit length; rows of the same number belong together.
        groups: see ``plait.alignment.metrics.compute_alignment_metrics``.
    """
    numbers = _numbered(groups, len(vision)).to(vision.device)
    for way, queries, answers in (("vision_to_text", vision, text), ("text_to_vision", text, vision)):
        found = ranks(queries, answers, numbers)
        for k in (1, 5, 10):
            yield f"{way}_r{k}", (found <= k).double().mean().item()
        yield f"{way}_median_rank", found.quantile(0.5).item()


def ranks(
    queries: Float[Tensor, "n d"], answers: Float[Tensor, "n d"], groups: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """The place of each query's best right answer among the wrong ones, from 1. A wrong one that is equally similar
    takes half a place, so that embeddings that are all the same rank as chance does.
    """
    found = []
    for some, own in zip(queries.split(CHUNK), groups.split(CHUNK), strict=True):
        similarity, right = some @ answers.T, own[:, None] == groups
        ahead = similarity - similarity.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        ahead = ahead.masked_fill(right, -torch.inf)
        found.append(1 + ((ahead > TIE).double() + (ahead >= -TIE).double()).sum(dim=1) / 2)
    return torch.cat(found)


def _numbered(groups: Groups | None, pairs: int) -> Int[Tensor, " n"]:
    """The same number for equal values."""
    if groups is None:
        return torch.arange(pairs)
    values = groups.tolist() if isinstance(groups, Tensor) else groups
    if len(values) != pairs:
        raise ValueError(f"groups: {len(values)} values for {pairs} pairs; give one for each pair")
    numbers = {value: number for number, value in enumerate(values)}
    return torch.tensor([numbers[value] for value in values])
