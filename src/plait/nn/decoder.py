"""Transformer layers for tokens that are written while fused tokens are read: denoisers, and decoders step by step."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.types import Shape, Tokens


class Context(nn.Module):
    """Fused tokens as a decoder reads them: at its width, each marked with its place."""

    def __init__(self, shape: Shape, width: int):
        super().__init__()
        self.project, self.norm = nn.Linear(shape.dim, width), nn.LayerNorm(width)
        self.places = nn.Parameter(0.02 * torch.randn(shape.n, width))

    def forward(self, tokens: Tokens) -> Tokens:
        data = self.project(tokens.cleaned().relu()) + self.places[: tokens.mask.shape[1]]
        return Tokens(self.norm(data), tokens.mask)


class DecoderLayer(nn.Module):
    """Attention among the written tokens, attention to the context, and a GELU MLP, each a pre-normalised residual."""

    def __init__(self, width: int, heads: int, expansion: int = 4):
        super().__init__()
        self.written_norm, self.context_norm, self.mlp_norm = (nn.LayerNorm(width) for _ in range(3))
        self.written, self.context = Attention(width, heads), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        seen: Float[Tensor, "b m d"],
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"],
        context: Tokens,
    ) -> Float[Tensor, "b n d"]:
        """Compute the tokens ``x``, which attend to ``seen`` where ``mask`` is True: to themselves when both are the
        same; when one token is written after another, ``x`` is the new one and ``seen`` all up to it.
        """
        x = x + self.written(self.written_norm(x), self.written_norm(seen), mask)
        x = x + self.context(self.context_norm(x), context.data, context.mask)
        return x + self.mlp(self.mlp_norm(x))
