"""Attention memory: the present attends to the last k moments, each marked by how long ago it was."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.memory.history import History, check_steps
from plait.nn.transformer import TransformerLayer


@dataclass(frozen=True)
class MemoryAttentionConfig:
    """A small transformer over the last moments; what becomes of the newest is the answer.

    Attributes:
        steps: moments that are remembered, the present included; one moment is one prediction of the policy.
        heads: attention heads; must divide width.
        layers: transformer layers.
        width: of each moment inside.
    """

    steps: int = 10
    heads: int = 4
    layers: int = 1
    width: int = 128

    def __post_init__(self) -> None:
        refuse_outside(self, steps="[2, inf)")

    def build(self, inputs: int, outputs: int) -> "MemoryAttention":
        return MemoryAttention(inputs, outputs, **vars(self))


class MemoryAttention(nn.Module):
    """Learned positions count back from the present, so that they mean the same at any time of an episode."""

    def __init__(self, inputs: int, outputs: int, steps: int = 10, heads: int = 4, layers: int = 1, width: int = 128):
        super().__init__()
        self.steps = check_steps("memory_attention", steps)
        self.project = nn.Linear(inputs, width)
        self.age = nn.Parameter(0.02 * torch.randn(steps, width))
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, outputs)

    def start(self, rows: int) -> History:
        return History.empty(rows, self.steps, like=self.project.weight)

    def forward(
        self, features: Float[Tensor, "b t d"], state: History, reset: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t e"], History]:
        """``reset``: True where an episode begins. Returns one vector per moment, and the state after the last."""
        moments = state.along(features, reset)
        x = rearrange(self.project(moments.cleaned()) + self.age, "b t k w -> (b t) k w")
        mask = rearrange(moments.mask, "b t k -> (b t) k")
        for layer in self.layers:
            x = layer(x, mask)
        newest = self.output(self.norm(x[:, -1]))
        return rearrange(newest, "(b t) e -> b t e", t=features.shape[1]), state.after(features, reset)
