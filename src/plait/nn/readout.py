"""Read-outs: from a grid of tokens to one token, so that a head sees where things are."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

ReadoutName = Literal["flatten", "mean"]


class FlattenReadout(nn.Module):
    """1x1 convolution, max-pool to at most ``cells`` x ``cells``, one linear layer over all cells.

    Each cell keeps its own weights, which makes positions easy to learn: on the tabletop, pooling read-outs
    reach a fraction of its success in the same training time.
    """

    def __init__(self, channels: int, grid: tuple[int, int], dim: int, cells: int = 8, squeeze: int = 32):
        super().__init__()
        pooled = (min(cells, grid[0]), min(cells, grid[1]))
        self.layers = nn.Sequential(
            nn.Conv2d(channels, squeeze, 1),
            nn.AdaptiveMaxPool2d(pooled),
            nn.Flatten(),
            nn.Linear(squeeze * pooled[0] * pooled[1], dim),
        )

    def forward(self, x: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b d"]:
        return self.layers(x)


class MeanReadout(nn.Module):
    """The mean over all cells, and one linear layer."""

    def __init__(self, channels: int, grid: tuple[int, int], dim: int):
        super().__init__()
        self.project = nn.Linear(channels, dim)

    def forward(self, x: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b d"]:
        return self.project(x.mean(dim=(2, 3)))


def readout(name: ReadoutName, channels: int, grid: tuple[int, int], dim: int, cells: int = 8) -> nn.Module:
    """Build a read-out by its name; ``cells`` matters to ``flatten`` only."""
    return FlattenReadout(channels, grid, dim, cells) if name == "flatten" else MeanReadout(channels, grid, dim)
