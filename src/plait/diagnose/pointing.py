"""Do the maps point at the object that is named? The simulator's segmentation knows where it is."""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from plait.diagnose.bootstrap import ratio
from plait.diagnose.scenes import Truth
from plait.evaluate.statistics import wilson

LEVEL = 1 - 1e-5  # of the maximum: what rounding leaves of equal values
Score = dict[str, Any]


def pointing(maps: dict[str, Float[Tensor, "b _ _"]], truth: Truth) -> dict[str, Score]:
    """The pointing game (Zhang et al., https://arxiv.org/abs/1608.00507) for each camera, over the scenes in which it
    shows the named object.

    Returns:
        camera -> ``n``, these scenes, and if there are any:
        ``hit``, ``distracted``: percent of them in which the map's maximum lies on the named object, and on another
        one; of several equal maxima, each counts for its part.
        ``chance``, ``chance_distracted``: the same of a map without differences, that is the objects' share of the
        picture.
        ``gain``, ``gain_distractors``: the share of the map that lies on the named object, and on the others, over
        that of a map without differences, which has 1.
        Each of ``hit``, ``distracted``, ``gain``, ``gain_distractors`` with its 95 % interval in ``<name>_ci95``.
    """
    return {camera: _score(m, truth.named[camera], truth.others[camera]) for camera, m in maps.items()}


def _score(maps: Float[Tensor, "b rows columns"], named: Bool[Tensor, "b h w"], others: Bool[Tensor, "b h w"]) -> Score:
    shown = named.flatten(1).any(dim=1)
    score: Score = {"n": int(shown.sum())}
    if not shown.any():
        return score
    weights = magnified(maps, named.shape[1:])[shown]
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    highest = (weights >= LEVEL * weights.amax(dim=(1, 2), keepdim=True)).float()
    highest = highest / highest.sum(dim=(1, 2), keepdim=True)
    for mask, hit, chance, gain in (
        (named[shown].float(), "hit", "chance", "gain"),
        (others[shown].float(), "distracted", "chance_distracted", "gain_distractors"),
    ):
        area = mask.mean(dim=(1, 2))
        hits, mass = (highest * mask).sum(dim=(1, 2)), (weights * mask).sum(dim=(1, 2))
        score |= percent(hits.sum().item(), len(hits), hit)
        score[chance] = round(100 * area.mean().item(), 2)
        score[gain], *interval = (round(value, 3) for value in ratio(mass, area))
        score[f"{gain}_ci95"] = interval
    return score


def percent(hits: float, n: int, name: str) -> Score:
    """The share in percent and its Wilson interval, for which parts of hits are rounded."""
    low, high = wilson(round(hits), n)
    return {name: round(100 * hits / n, 2), f"{name}_ci95": [round(100 * low, 2), round(100 * high, 2)]}


def magnified(maps: Float[Tensor, "b rows columns"], size: tuple[int, ...]) -> Float[Tensor, "b h w"]:
    """The maps at the size of the pictures that they lie over, without edges where their cells meet."""
    return interpolate(maps[:, None], size=tuple(size), mode="bilinear")[:, 0]
