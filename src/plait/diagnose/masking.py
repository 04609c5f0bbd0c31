"""Does a map matter to the action? Where it does, hiding what it marks changes more than hiding as much elsewhere."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from plait.diagnose.bootstrap import ratio
from plait.diagnose.heatmaps import ROWS
from plait.policy import Policy
from plait.types import Inputs

SHARE = 0.05  # of each camera's patches is hidden
DRAWS = 8  # random choices of as many
Maps = dict[str, Float[Tensor, "b _ _"]]


def masking(policy: Policy, inputs: Inputs, maps: Maps) -> dict[str, float | list[float]]:
    """Hide the highest twentieth of each camera's patches under the picture's mean colour, then as many random ones.

    Args:
        maps: camera -> one map for each row of ``inputs``.

    Returns:
        ``top``, ``random``: how far the predicted chunk moves, root mean square over its normalised entries, on average
        over rows. ``ratio``: the one over the other, 1 for a map that says nothing; with ``ratio_ci95``.
    """
    generator = torch.Generator().manual_seed(0)
    before = _predict(policy, inputs)
    top = _moved(policy, inputs, maps, before)
    chance = [{c: torch.rand(m.shape, generator=generator) for c, m in maps.items()} for _ in range(DRAWS)]
    random = torch.stack([_moved(policy, inputs, drawn, before) for drawn in chance]).mean(dim=0)
    value, *interval = ratio(top, random)
    return {"top": top.mean().item(), "random": random.mean().item(), "ratio": value, "ratio_ci95": interval}


def hidden(pictures: UInt8[Tensor, "b h w 3"], patches: Bool[Tensor, "b rows columns"]) -> UInt8[Tensor, "b h w 3"]:
    """The pictures with some patches in the picture's mean colour."""
    mean = pictures.float().mean(dim=(1, 2), keepdim=True).round().to(torch.uint8)
    covered = interpolate(patches[:, None].float(), size=pictures.shape[1:3], mode="nearest")[:, 0, ..., None] > 0
    return torch.where(covered, mean, pictures)


def highest(maps: Float[Tensor, "b rows columns"], share: float = SHARE) -> Bool[Tensor, "b rows columns"]:
    """Where the highest share of each map is; at least one cell."""
    flat = maps.flatten(1)
    cells = flat.topk(max(1, round(share * flat.shape[1])), dim=1).indices
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, cells, True).view(maps.shape)


def _moved(policy: Policy, inputs: Inputs, maps: Maps, before: Tensor) -> Float[Tensor, " b"]:
    images = inputs.images | {c: hidden(inputs.images[c].cpu(), highest(m)) for c, m in maps.items()}
    after = _predict(policy, replace(inputs, images=images))
    return (after - before).square().mean(dim=(1, 2)).sqrt()


def _predict(policy: Policy, inputs: Inputs) -> Float[Tensor, "b horizon a"]:
    """Normalised; a head that draws noise draws the same for the same rows."""
    chunks = []
    with torch.random.fork_rng():
        for some in inputs.split(ROWS):
            torch.manual_seed(0)
            chunks.append(policy.normalise_action.normalise(policy.predict(some)).cpu())
    return torch.cat(chunks)
