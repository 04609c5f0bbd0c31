"""Adaptive fusion: the instruction and the input decide how much each modality counts."""

from dataclasses import dataclass

import torch
from torch import nn

from plait.config import refuse_outside
from plait.fusion.early import EarlyConfig
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName
from plait.types import Fused, FusionPart, Shape, Tokens


@dataclass(frozen=True)
class AdaptiveConfig:
    """One gate per modality, from all modalities, scales its tokens before early fusion joins them.

    Attributes:
        gate: hidden width of the network that computes the gates.
        stages: channels of each stage of the early fusion behind the gates.
        depth: residual blocks per stage.
        readout: how a grid becomes one token.
        cells: rows and columns that the flatten read-out tells apart.
        width: of each fused token.
    """

    gate: int = 64
    stages: tuple[int, ...] = (48,)
    depth: int = 1
    readout: ReadoutName = "flatten"
    cells: int = 8
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self, depth="[0, inf)")

    def build(self, groups: dict[str, Shape]) -> "Adaptive":
        joined = EarlyConfig(self.stages, self.depth, self.readout, self.cells, self.width).build(groups)
        return Adaptive(groups, joined, self.gate)


class Adaptive(nn.Module):
    """Gates in front of a fusion, after the gated multimodal unit (Arevalo et al., https://arxiv.org/abs/1702.01992).

    A gate lies between 0 (the modality is not looked at) and 1. Because the tokens themselves are scaled, nothing
    of a closed modality gets past its gate. Compare a gate between inputs: between modalities the weights behind
    them differ too.

    ``reads["gates"]`` is ``[b, modalities]``, in the order of the groups.
    """

    def __init__(self, groups: dict[str, Shape], fusion: FusionPart, gate: int):
        super().__init__()
        self.fusion = fusion
        inputs = sum(shape.dim for shape in groups.values())
        self.gate = nn.Sequential(nn.Linear(inputs, gate), nn.ReLU(), nn.Linear(gate, len(groups)), nn.Sigmoid())
        self.shape = fusion.shape

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        gates = self.gate(torch.cat([masked_mean(tokens) for tokens in groups.values()], dim=-1))
        gated = {
            name: Tokens(gates[:, i, None, None] * tokens.cleaned(), tokens.mask, tokens.grid)
            for i, (name, tokens) in enumerate(groups.items())
        }
        fused = self.fusion(gated)
        return Fused(fused.tokens, fused.losses, {"gates": gates} if reads else {})
