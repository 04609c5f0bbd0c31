"""Transformer layers for tokens that are written while fused tokens are read: denoisers, and decoders step by step."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.nn.attention import Attention, Mask, Read
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
        mask: Mask,
        read: Read,
    ) -> Float[Tensor, "b n d"]:
        """Compute the tokens ``x``, which attend to ``seen`` where ``mask`` is True: to themselves when both are the
        same; when one token is written after another, ``x`` is the new one and ``seen`` all up to it.
        """
        normed = self.written_norm(x)
        x = x + self.written(normed, normed if seen is x else self.written_norm(seen), mask)
        x = x + self.context.attend(self.context_norm(x), read)
        return x + self.mlp(self.mlp_norm(x))


class DecoderLayers(nn.ModuleList):
    """Layers that read one context."""

    def __init__(self, layers: int, width: int, heads: int):
        super().__init__(DecoderLayer(width, heads) for _ in range(layers))

    def read(self, context: Tokens) -> list[Read]:
        """What each layer reads of the context: it stays while tokens are written."""
        reads = []
        for layer in self:
            assert isinstance(layer, DecoderLayer)
            reads.append(layer.context.read(context.data, context.mask))
        return reads
