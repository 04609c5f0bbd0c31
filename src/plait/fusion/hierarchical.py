"""Hierarchical fusion: three levels, from joined features over cross-attention to one transformer over both."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.fusion.cross_attention import CrossAttentionConfig
from plait.fusion.early import EarlyConfig, EarlyFusion
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName
from plait.nn.transformer import TransformerLayer
from plait.spec import INSTRUCTION, camera_modality
from plait.types import Fused, FusionPart, Mask, Shape, Tokens


@dataclass(frozen=True)
class HierarchicalConfig:
    """Early fusion below, cross-attention in the middle, and a transformer over what both say.

    Attributes:
        stages: channels of each stage of the low level's residual blocks; each after the first halves the grid.
        depth: residual blocks per stage.
        readout: how a grid becomes one token, at both lower levels.
        dim: width of the tokens at the middle level.
        heads: attention heads of both upper levels; must divide dim and width.
        layers: transformer layers of the high level.
        width: of the high level and of each fused token.
    """

    stages: tuple[int, ...] = (48,)
    depth: int = 1
    readout: ReadoutName = "flatten"
    dim: int = 96
    heads: int = 8
    layers: int = 3
    width: int = 96

    def __post_init__(self) -> None:
        refuse_outside(self, depth="[0, inf)")

    def build(self, groups: dict[str, Shape]) -> "Hierarchical":
        low = EarlyConfig(self.stages, self.depth, self.readout, width=self.width)
        mid = CrossAttentionConfig(self.dim, self.heads, 1, (), self.readout, self.width)
        return Hierarchical(low.build(groups), mid.build(groups), self.heads, self.layers)


class Hierarchical(nn.Module):
    """In a policy: the high level reads the tokens of both lower levels (one per modality each) and returns them all.

    Args:
        low, mid: fusions of the same groups, whose tokens have one width.
    """

    def __init__(self, low: FusionPart, mid: FusionPart, heads: int, layers: int):
        super().__init__()
        self.low, self.mid = low, mid
        width = low.shape.dim
        assert mid.shape.dim == width, "both lower levels enter the high level side by side"
        self.level = nn.Parameter(0.02 * torch.randn(low.shape.n + mid.shape.n, width))
        self.high = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.shape = Shape(low.shape.n + mid.shape.n, width, modalities=low.shape.modalities + mid.shape.modalities)

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        low, mid = self.low(groups), self.mid(groups, reads)
        x = torch.cat([low.tokens.cleaned(), mid.tokens.cleaned()], dim=1) + self.level
        mask = torch.cat([low.tokens.mask, mid.tokens.mask], dim=1)
        for layer in self.high:
            x = layer(x, mask)
        return Fused(Tokens(self.norm(x), mask), low.losses | mid.losses, mid.reads)


class PooledEarly(nn.Module):
    """The tutorial's low level: ``EarlyFusion`` of the mean image token and the mean word, one token."""

    def __init__(self, vision: str, dim: int = 768, width: int = 256):
        super().__init__()
        self.vision, self.fusion = vision, EarlyFusion(dim, dim, 2 * width, width)
        self.shape = Shape(1, width)

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        token = self.fusion(masked_mean(groups[self.vision]), masked_mean(groups[INSTRUCTION]))
        return Fused(Tokens.valid(token[:, None]))


class HierarchicalMultiModal(nn.Module):
    """The tutorial's model: three levels at widths 768, 512 and 256, a perceptron 256-128-7 on the mean of the last.

    >>> HierarchicalMultiModal()(torch.randn(2, 196, 768), torch.randn(2, 20, 768)).shape
    torch.Size([2, 7])

    Args:
        grid: rows and columns of the image's patches.
        words: the most that one sentence can have.
    """

    def __init__(self, grid: tuple[int, int] = (14, 14), words: int = 512):
        super().__init__()
        self.grid, self.vision = grid, camera_modality("vision")
        groups = {self.vision: Shape(grid[0] * grid[1], 768, grid), INSTRUCTION: Shape(words, 768)}
        mid = CrossAttentionConfig(dim=512, heads=8, layers=1, stages=(), readout="mean", width=256)
        self.fusion = Hierarchical(PooledEarly(self.vision), mid.build(groups), heads=8, layers=3)
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 7))

    def forward(
        self,
        vision: Float[Tensor, "b n 768"],
        language: Float[Tensor, "b m 768"],
        text_mask: Mask | None = None,
    ) -> Float[Tensor, "b 7"]:
        """The mask is True = valid, omitted = every word is.

        Raises:
            ValueError: patches that do not fill the grid, or more words than the model was built for.
        """
        rows, columns = self.grid
        if vision.shape[1] != rows * columns:
            raise ValueError(
                f"vision: {vision.shape[1]} patches do not fill the grid of {rows} x {columns}; "
                "build HierarchicalMultiModal with the grid that your patches tile"
            )
        groups = {
            self.vision: Tokens.valid(vision, self.grid),
            INSTRUCTION: Tokens.of(language, text_mask),
        }
        return self.head(masked_mean(self.fusion(groups).tokens))
