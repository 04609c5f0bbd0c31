"""How well vision and text agree in one space, in numbers. Everything is computed in float64.

``docs/alignment.md`` tells how to read them.
"""

from math import inf

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from plait.alignment.retrieval import CHUNK, retrieval
from plait.alignment.right import Groups, Right


def compute_alignment_metrics(
    vision_embeds: Tensor, text_embeds: Tensor, groups: Groups | None = None
) -> dict[str, float]:
    """Of pairs of embeddings, which are brought to unit length first.

    >>> same = torch.randn(8, 4)
    >>> metrics = compute_alignment_metrics(same, same, groups=["red ball", "cube"] * 4)
    >>> metrics["retrieval_acc"], metrics["text_to_vision_median_rank"], round(metrics["matched_similarity"], 6)
    (1.0, 1.0, 1.0)

    Args:
        vision_embeds, text_embeds: ``[n, d]`` each, n at least 2; rows of the same number belong together.
        groups: one value per pair, the caption itself or an id. Where it is equal, images and texts are right answers
            to each other, and the texts are copies of one, which takes one place among the answers. Omitted, only the
            other half of a pair is right.

    Returns:
        ``matched_similarity``, ``mean_similarity``: cosine of pairs, and of all combinations.
        ``vision_to_text_r1``, ``_r5``, ``_r10``, ``_median_rank``, ``text_to_vision_...`` and ``retrieval_acc``, the
        mean of both R@1: see ``retrieval``, which also takes texts of which several are true of one picture.
        ``alignment``, ``uniformity_vision``, ``uniformity_text``, ``cka``: see the functions of these names.
        ``effective_rank_vision``, ``effective_rank_text``: of the embeddings around their mean.

    Raises:
        ValueError: other shapes, numbers that are not finite, or a row of zeros, which has no direction.
    """
    vision, text = _pairs(vision_embeds, text_embeds)
    return {
        "matched_similarity": (vision * text).sum(dim=1).mean().item(),
        "mean_similarity": (vision.mean(dim=0) @ text.mean(dim=0)).item(),
        **dict(retrieval(vision, text, Right.grouped(groups, len(vision)))),
        "alignment": alignment(vision, text),
        "uniformity_vision": uniformity(vision),
        "uniformity_text": uniformity(text),
        "cka": linear_cka(vision, text),
        "effective_rank_vision": effective_rank(_centred(vision)),
        "effective_rank_text": effective_rank(_centred(text)),
    }


def measure_modality_gap(vision_embeds: Tensor, text_embeds: Tensor) -> dict[str, float]:
    """How far apart the two modalities lie in the common space (https://arxiv.org/abs/2203.02053).

    >>> up = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])
    >>> {name: round(value, 3) for name, value in measure_modality_gap(up, -up).items()}
    {'modality_gap': 1.733, 'vision_variance': 0.249, 'text_variance': 0.249, 'gap_to_variance_ratio': 3.474}

    Args:
        vision_embeds, text_embeds: ``[n, d]`` each, n at least 2; brought to unit length first.

    Returns:
        ``modality_gap``: distance between the mean embeddings, 0 to 2.
        ``vision_variance``, ``text_variance``: mean squared distance to the modality's mean, 0 to 1.
        ``gap_to_variance_ratio``: the gap over the root of the mean of both variances, a length over a length.

    Raises:
        ValueError: other shapes, numbers that are not finite, or a row of zeros, which has no direction.
    """
    vision, text = _pairs(vision_embeds, text_embeds)
    gap = (vision.mean(dim=0) - text.mean(dim=0)).norm().item()
    variances = [_centred(each).square().sum(dim=1).mean().item() for each in (vision, text)]
    spread = (sum(variances) / 2) ** 0.5
    return {
        "modality_gap": gap,
        "vision_variance": variances[0],
        "text_variance": variances[1],
        "gap_to_variance_ratio": gap / spread if spread else inf if gap else 0.0,
    }


def alignment(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """Mean squared distance of pairs of unit length, 0 (best) to 4. Wang & Isola, https://arxiv.org/abs/2005.10242."""
    return (_unit(x) - _unit(y)).square().sum(dim=1).mean().item()


def uniformity(x: Float[Tensor, "n d"]) -> float:
    """Log of the mean of exp(-2 |a - b|^2) over different rows of unit length: 0 when all are the same; the lower, the
    more evenly they cover the sphere (on which it is about -4 in many dimensions). Wang & Isola.
    """
    x, n = _unit(x), len(x)
    total = torch.stack([(4 * (rows @ x.T - 1)).exp().sum() for rows in x.split(CHUNK)]).sum()
    return ((total - n) / (n * (n - 1))).log().item()


def linear_cka(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], debiased: bool = False) -> float:
    """Linear centred kernel alignment: whether both see the same similarities, whatever the rotation, scale and width;
    1 is yes. Kornblith et al., https://arxiv.org/abs/1905.00414.

    With fewer rows than some times their width it is high for noise too. ``debiased`` corrects that
    (https://arxiv.org/abs/2010.15327): 0 on average for noise; it can fall below 0.

    Raises:
        ValueError: fewer than 4 rows, debiased.
    """
    if debiased and len(x) < 4:
        raise ValueError(f"linear_cka: {len(x)} rows; debiased, it needs at least 4")
    x, y = _centred(x.detach().double()), _centred(y.detach().double())
    shared, own_x, own_y = (_dot(a, b, debiased) for a, b in ((x, y), (x, x), (y, y)))
    return shared / (own_x * own_y) ** 0.5 if own_x > 0 and own_y > 0 else 0.0


def effective_rank(x: Float[Tensor, "n d"]) -> float:
    """The number of directions that the rows take: exp of the entropy of the singular values' shares; 0 of a zero
    matrix. Roy & Vetterli, EUSIPCO 2007.

    >>> round(effective_rank(torch.eye(5)), 6)
    5.0
    """
    values = torch.linalg.svdvals(x.detach().double())
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp().item() if shares.any() else 0.0


def _dot(x: Tensor, y: Tensor, debiased: bool) -> float:
    """The product of two centred matrices of similarities, x x^T and y y^T; debiased as in Kornblith's own code."""
    product = (x.T @ y).square().sum()
    if debiased:
        n, of_x, of_y = len(x), x.square().sum(dim=1), y.square().sum(dim=1)
        product += of_x.sum() * of_y.sum() / ((n - 1) * (n - 2)) - n / (n - 2) * (of_x @ of_y)
    return product.item()


def _unit(x: Tensor) -> Float[Tensor, "n d"]:
    return normalize(x.detach().double(), dim=1)


def _centred(x: Tensor) -> Float[Tensor, "n d"]:
    """Around the mean row. What only rounding leaves is zero: rows that are all the same have no directions."""
    centred = x - x.mean(dim=0)
    return torch.where(centred.abs() > 1e-12 * x.abs().max(), centred, 0.0)


def _pairs(vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    if vision.ndim != 2 or vision.shape != text.shape or len(vision) < 2:
        shapes = f"{list(vision.shape)} and {list(text.shape)}"
        raise ValueError(f"embeddings of shape {shapes}: both must be [n, d], the same, with at least 2 rows")
    for name, rows in (("vision_embeds", vision), ("text_embeds", text)):
        if broken := int((~rows.isfinite()).any(dim=1).sum()):  # a NaN is never less similar: it would win every rank
            raise ValueError(f"{name}: {broken} of {len(rows)} rows are not finite; look for what made them so")
        if zero := int((rows == 0).all(dim=1).sum()):
            raise ValueError(
                f"{name}: {zero} of {len(rows)} rows are zero, which no length brings to 1; leave them out, or look "
                "for what made them so"
            )
    return _unit(vision), _unit(text)
