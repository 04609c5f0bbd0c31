"""Normalisation that travels with the checkpoint."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_STD = 1e-4  # below this an entry is constant in the data; dividing by it would amplify noise


class Normaliser(nn.Module):
    """Standardises the last axis with a dataset's mean and standard deviation, held in buffers.

    An entry that never changes in the dataset is only centred, and what is predicted of it becomes its constant: the
    error of a network, or what is left of a sampler's noise, must not move a robot that always stood still there.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, " d"], std: Float[Tensor, " d"]):
        super().__init__()
        self.register_buffer("mean", mean.float().clone())
        self.register_buffer("std", std.float().clone())

    @classmethod
    def identity(cls, dim: int) -> "Normaliser":
        return cls(torch.zeros(dim), torch.ones(dim))

    def select(self, entries: Sequence[int]) -> "Normaliser":
        """A normaliser of some of the entries, in this order."""
        return Normaliser(self.mean[list(entries)], self.std[list(entries)])

    def normalise(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return (x - self.mean) / torch.where(self.std < SMALLEST_STD, 1.0, self.std)

    def denormalise(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return x * self.std + self.mean
