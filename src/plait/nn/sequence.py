"""All modalities as one sequence: every group at one width, joined, cut back, and each read out as one token."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.nn.embedding import GridEmbedding, SequenceEmbedding
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName, readout
from plait.spec import module_name
from plait.types import Shape, Tokens


class GroupEmbedding(nn.Module):
    """Every group at width ``dim``, each token marked with its modality and place; ``self.shapes`` says what comes out.

    Args:
        groups: what comes in.
        dim: width of every token; a multiple of 4.
        stride: makes grids coarser before they enter, so that attention costs less; 1 keeps every patch.
        stages: channels of residual blocks that each grid goes through first, one each; every one after the first
            halves the grid. A shallow encoder's patches are all but linear in the pixels and have not seen their
            neighbours; attention alone does not make up for that.
    """

    def __init__(self, groups: dict[str, Shape], dim: int, stride: int = 1, stages: tuple[int, ...] = ()):
        super().__init__()
        embed = {
            name: GridEmbedding(shape, dim, stride, stages) if shape.grid else SequenceEmbedding(shape, dim)
            for name, shape in groups.items()
        }
        self.embed = nn.ModuleDict({module_name(name): module for name, module in embed.items()})
        self.shapes = {
            name: Shape(e.grid[0] * e.grid[1], dim, e.grid)
            if isinstance(e, GridEmbedding)
            else Shape(groups[name].n, dim)
            for name, e in embed.items()
        }

    def forward(self, groups: dict[str, Tokens]) -> dict[str, Tokens]:
        return {name: self.embed[module_name(name)](tokens) for name, tokens in groups.items()}


class GroupReadout(nn.Module):
    """One token per group: grids by their read-out (see ``plait.nn.readout``), everything else by its mean.

    Args:
        groups: what comes in.
        width: of each token that comes out.
    """

    def __init__(self, groups: dict[str, Shape], width: int, readout_name: ReadoutName = "flatten", cells: int = 8):
        super().__init__()
        layers = {
            name: readout(readout_name, s.dim, s.grid, width, cells) if s.grid else nn.Linear(s.dim, width)
            for name, s in groups.items()
        }
        self.layers = nn.ModuleDict({module_name(name): layer for name, layer in layers.items()})

    def forward(self, groups: dict[str, Tokens]) -> Tokens:
        fused = [
            self.layers[module_name(name)](tokens.as_map() if tokens.grid else masked_mean(tokens))
            for name, tokens in groups.items()
        ]
        return Tokens.valid(torch.stack(fused, dim=1))


def join(groups: dict[str, Tokens]) -> Tokens:
    """All tokens of all groups, one after another."""
    return Tokens(
        torch.cat([tokens.data for tokens in groups.values()], dim=1),
        torch.cat([tokens.mask for tokens in groups.values()], dim=1),
    )


def split(data: Float[Tensor, "b n d"], groups: dict[str, Tokens]) -> dict[str, Tokens]:
    """Data of a joined sequence, cut back into ``groups``, whose masks and grids it takes over."""
    parts = data.split([tokens.mask.shape[1] for tokens in groups.values()], dim=1)
    return {name: Tokens(part, g.mask, g.grid) for (name, g), part in zip(groups.items(), parts, strict=True)}
