"""Numbers as shares of bins, and back without loss: what lets a classifier predict a number."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bins(nn.Module):
    """Centres from ``-limit`` to ``limit``, spaced by the inverse hyperbolic sine: fine near 0, coarse far out.

    Normalised actions are mostly within 3 standard deviations, but an entry that rarely moves reaches dozens. Equal
    bins would cut it off or be too coarse for all others; the data's quantiles would give it no bin at all. A number
    between two centres is shared by both, as in DreamerV3 (https://arxiv.org/abs/2301.04104), so that no precision is
    lost and neighbouring bins learn from each other. What lies beyond ``limit`` counts as ``limit``.

    >>> bins = Bins(count=256, limit=30.0)
    >>> bins.value(bins.shares(torch.tensor([0.123, -2.5, 99.0])).log())
    tensor([ 0.1230, -2.5000, 30.0000])
    """

    centres: Tensor

    def __init__(self, count: int, limit: float):
        super().__init__()
        if count < 3 or limit <= 0:
            raise ValueError(f"bins: {count} up to a limit of {limit:g}; at least 3, and a limit above 0")
        edge = math.asinh(limit)
        self.register_buffer("centres", torch.linspace(-edge, edge, count).sinh(), persistent=False)

    def __len__(self) -> int:
        return len(self.centres)

    def shares(self, number: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape bins"]:
        """What each bin has of the number: at most two neighbours have something, and together 1."""
        upper = torch.bucketize(number.contiguous(), self.centres).clamp(1, len(self) - 1)
        below, above = self.centres[upper - 1], self.centres[upper]
        place = upper - 1 + ((number - below) / (above - below)).clamp(0, 1)
        return (1 - (place[..., None] - torch.arange(len(self), device=number.device)).abs()).clamp(min=0)

    def value(self, logits: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape"]:
        """The mean over the most probable bin and its two neighbours: one mode, never the middle between two."""
        best = logits.argmax(dim=-1, keepdim=True).clamp(1, len(self) - 2)
        near = best + torch.arange(-1, 2, device=logits.device)
        return (logits.gather(-1, near).softmax(dim=-1) * self.centres[near]).sum(dim=-1)

    def loss(self, logits: Float[Tensor, "*shape bins"], number: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The cross-entropy to the number's shares."""
        return -(self.shares(number) * logits.float().log_softmax(dim=-1)).sum(dim=-1)
