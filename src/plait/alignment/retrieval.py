"""Retrieval both ways, where several answers may be right."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plait.alignment.right import Right

CHUNK = 1024  # queries that are compared at once
TIE = 1e-12  # far above rounding in float64, far below what tells two embeddings apart


def retrieval(vision: Float[Tensor, "n d"], text: Float[Tensor, "m d"], right: Right) -> Iterator[tuple[str, float]]:
    """For both ways ``<way>_r1``, ``_r5``, ``_r10``, the share of queries with a right answer among the first k, and
    ``<way>_median_rank``, the median place of the first right answer, 1 is best; then ``retrieval_acc``, the mean of
    both R@1.

    Several answers may be right, and any of them will do, as on COCO and Flickr30k, where each picture has five
    captions. Equal texts are one answer, at the place of the copy that is most similar; every picture is an answer.

    Args:
        vision, text: float64, of unit length.
        right: which belong together; each picture and each text has a right answer.
    """
    right = Right(right.texts.to(vision.device), right.true.to(vision.device))
    found = {
        "vision_to_text": ranks(vision, text, right.tile, right.texts),
        "text_to_vision": ranks(text, vision, lambda some: right.tile(texts=some).T),
    }
    for way, places in found.items():
        for k in (1, 5, 10):
            yield f"{way}_r{k}", (places <= k).double().mean().item()
        yield f"{way}_median_rank", places.quantile(0.5).item()
    yield "retrieval_acc", sum((places <= 1).double().mean().item() for places in found.values()) / 2


def ranks(
    queries: Float[Tensor, "n d"],
    answers: Float[Tensor, "m d"],
    right: Callable[[slice], Bool[Tensor, "some m"]],
    numbers: Int[Tensor, " m"] | None = None,
) -> Float[Tensor, " n"]:
    """The place of each query's best right answer among the wrong ones, from 1. A wrong one that is equally similar
    takes half a place, so that embeddings that are all the same rank as chance does.

    Args:
        right: which answers are right for some of the queries.
        numbers: from 0; answers with equal numbers are copies of one, which takes one place. Omitted, none are.
    """
    found, most = [], 0 if numbers is None else int(numbers.max()) + 1
    for start in range(0, len(queries), CHUNK):
        some = slice(start, start + CHUNK)
        similarity, matches = queries[some] @ answers.T, right(some)
        ahead = similarity - similarity.masked_fill(~matches, -torch.inf).amax(dim=1, keepdim=True)
        ahead = ahead.masked_fill(matches, -torch.inf)
        if numbers is not None:
            nothing = ahead.new_full((len(ahead), most), -torch.inf)
            ahead = nothing.scatter_reduce(1, numbers.expand_as(ahead), ahead, "amax")
        found.append(1 + ((ahead > TIE).double() + (ahead >= -TIE).double()).sum(dim=1) / 2)
    return torch.cat(found)
