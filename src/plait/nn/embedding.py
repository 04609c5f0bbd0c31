"""From the tokens of a modality to tokens of one sequence: one width, marked with their modality and their place."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from plait.nn.positions import grid_positions
from plait.nn.tower import residual_stages
from plait.types import Shape, Tokens


class GridEmbedding(nn.Module):
    """For image tokens: residual blocks, one convolution, which makes the grid coarser, and fixed places in two
    dimensions.

    Args:
        stages: channels of the blocks, one each; every block after the first halves the grid. Empty: no blocks.
        stride: rows and columns of the grid are divided by it, rounded up. A coarse token is valid when any token
            under its window of ``2 * stride - 1`` is.
    """

    places: Tensor

    def __init__(self, shape: Shape, dim: int, stride: int = 1, stages: tuple[int, ...] = ()):
        super().__init__()
        assert shape.grid is not None, "image tokens tile a grid"
        blocks, channels, (rows, columns) = residual_stages(shape.dim, shape.grid, stages, depth=1)
        self.blocks = nn.Sequential(nn.ReLU(), *blocks) if stages else nn.Identity()
        self.halved = len(stages[1:])
        self.window = (2 * stride - 1, stride, stride - 1)  # size, step, padding
        self.grid = ((rows - 1) // stride + 1, (columns - 1) // stride + 1)
        self.project = nn.Conv2d(channels, dim, *self.window, bias=False)
        self.kind = nn.Parameter(0.02 * torch.randn(dim))
        self.register_buffer("places", grid_positions(self.grid, dim), persistent=False)

    def forward(self, tokens: Tokens) -> Tokens:
        data = rearrange(self.project(self.blocks(tokens.as_map())), "b d rows columns -> b (rows columns) d")
        valid = Tokens(tokens.mask[..., None].float(), tokens.mask, tokens.grid).as_map()
        for _ in range(self.halved):
            valid = max_pool2d(valid, 3, 2, 1)
        mask = max_pool2d(valid, *self.window).flatten(1) > 0
        return Tokens(data + self.places + self.kind, mask, self.grid)


class SequenceEmbedding(nn.Module):
    """For words and the like: one linear layer, and a learned place for each of at most ``shape.n`` tokens."""

    def __init__(self, shape: Shape, dim: int):
        super().__init__()
        self.project = nn.Linear(shape.dim, dim, bias=False)
        self.mark = Mark(shape.n, dim, "words")

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(self.mark(self.project(tokens.cleaned())), tokens.mask)


class Mark(nn.Module):
    """Adds the learned vector of the modality and that of each place.

    Raises:
        ValueError: more than ``most`` tokens; ``what`` is what they are called.
    """

    def __init__(self, most: int, dim: int, what: str):
        super().__init__()
        self.what = what
        self.kind = nn.Parameter(0.02 * torch.randn(dim))
        self.places = nn.Parameter(0.02 * torch.randn(most, dim))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        if x.shape[1] > len(self.places):
            raise ValueError(
                f"{x.shape[1]} {self.what}, but only {len(self.places)} have a place; "
                f"build the model with {self.what}={x.shape[1]}, or give fewer"
            )
        return x + self.places[: x.shape[1]] + self.kind
