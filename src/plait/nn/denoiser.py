"""The network of diffusion and flow matching: a noisy chunk and fused tokens in, the clean one (or the way) out."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.nn.attention import Read
from plait.nn.decoder import Context, DecoderLayers
from plait.types import Shape, Tokens


class Denoiser(nn.Module):
    """A small transformer with one token per step of the chunk, which attends to the fused tokens.

    Args:
        shape: of the fused tokens.
        horizon, actions: of the chunk.
        width, layers, heads: of the transformer; ``width`` is even and divisible by ``heads``.
    """

    def __init__(self, shape: Shape, horizon: int, actions: int, width: int = 128, layers: int = 2, heads: int = 4):
        super().__init__()
        self.context = Context(shape, width)
        self.embed = nn.Linear(actions, width)
        self.places = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = DecoderLayers(layers, width, heads)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, actions))

    def read(self, tokens: Tokens) -> list[Read]:
        """What each layer reads of the fused tokens: the same at every time of denoising."""
        return self.layers.read(self.context(tokens))

    def forward(
        self, noisy: Float[Tensor, "b horizon a"], time: Float[Tensor, " b"], reads: list[Read]
    ) -> Float[Tensor, "b horizon a"]:
        """What is to be predicted, at the time of denoising, 0 to 1, of each row."""
        x = self.embed(noisy) + self.places + self.time(waves(time, self.places.shape[1]))[:, None]
        for layer, read in zip(self.layers, reads, strict=True):
            x = layer(x, x, None, read)
        return self.output(x).float()


def waves(time: Float[Tensor, " b"], dim: int) -> Float[Tensor, "b dim"]:
    """Sine and cosine of times from 0 to 1, at frequencies from a quarter turn to 4 turns: all are smooth."""
    frequency = torch.logspace(-2, 2, dim // 2, base=2, device=time.device)
    angle = 2 * math.pi * time[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
