"""Bottleneck fusion: the instruction picks a few tokens out of each camera's patches; only these go on."""

from dataclasses import dataclass

import torch
from torch import nn

from plait.config import refuse_outside
from plait.nn.pooling import masked_mean
from plait.nn.resampler import Resampler
from plait.nn.sequence import GroupEmbedding
from plait.nn.transformer import TransformerLayer
from plait.spec import INSTRUCTION, is_camera, module_name
from plait.types import Fused, Shape, Tokens


@dataclass(frozen=True)
class BottleneckConfig:
    """A few queries per camera, modulated by the words, replace its patches; then everything attends to everything.

    Train it at a rate of 1e-3: at 3e-3 one of two trainings on the tabletop did not find the place, and a recipe's own
    rate, such as the 5e-3 of tabletop-pick, stays unless another is given.

    Attributes:
        width: of every token, inside and out; a multiple of 4 and of heads.
        queries: tokens that remain of each camera.
        heads: attention heads.
        looks: times the queries look at the patches.
        layers: transformer layers over the tokens that remain.
        stages: channels of the residual blocks that each camera's grid goes through before it meets anything, one
            each; every one after the first halves the grid. () where the encoder is deep.
        where: each query also tells at which place it looked. False to see what that is worth.
    """

    width: int = 96
    queries: int = 8
    heads: int = 4
    looks: int = 2
    layers: int = 1
    stages: tuple[int, ...] = (48,)
    where: bool = True

    def __post_init__(self) -> None:
        refuse_outside(self, layers="[0, inf)")

    def build(self, groups: dict[str, Shape]) -> "Bottleneck":
        return Bottleneck(groups, **vars(self))


class Bottleneck(nn.Module):
    """Few tokens instead of many: 8 of a camera for 256, as CoRP (https://corp-policy.github.io) budgets its visual
    tokens by language.

    Cheaper than cross-attention in arithmetic, not in time: at four cameras 0.72 times the GFLOPs, but 10.2 ms for 5.0
    (one pass on an H100, kernel by kernel), because each camera is looked at on its own.

    Without an instruction nothing could choose what goes on, and such groups are refused.

    Out come each camera's tokens, and one for the words and the state each.
    Reads: ``look.<modality>`` ``[b, looks, heads, queries, patches]``, where each camera's queries looked.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        width: int,
        queries: int,
        heads: int,
        looks: int,
        layers: int,
        stages: tuple[int, ...],
        where: bool,
    ):
        super().__init__()
        if INSTRUCTION not in groups:
            rule = f"no {INSTRUCTION} among {sorted(groups)}, which decides what is looked for"
            raise ValueError(f"bottleneck: {rule}; add it, or use another fusion")
        self.embed = GroupEmbedding(groups, width, stages=stages)
        self.resamplers = nn.ModuleDict(
            {
                module_name(name): Resampler(width, width, queries, heads, looks, shape.grid if where else None)
                for name, shape in self.embed.shapes.items()
                if is_camera(name)
            }
        )
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        modalities = [name for name in groups for _ in range(queries if is_camera(name) else 1)]
        self.shape = Shape(len(modalities), width, modalities=tuple(modalities))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        groups = self.embed(groups)
        words, few, looks = masked_mean(groups[INSTRUCTION]), [], {}
        for name, tokens in groups.items():
            if not is_camera(name):
                few.append(masked_mean(tokens)[:, None])
                continue
            resampler = self.resamplers[module_name(name)]
            assert isinstance(resampler, Resampler)
            few.append(resampler(tokens, words))
            if reads:
                looks[f"look.{name}"] = resampler.weights(tokens, words)
        tokens = Tokens.valid(torch.cat(few, dim=1))
        x = tokens.data
        for layer in self.layers:
            x = layer(x, tokens.mask)
        return Fused(Tokens(x, tokens.mask), reads=looks)
