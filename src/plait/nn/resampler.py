"""A few queries, chosen by the words, gather what they need from many tokens."""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.nn.film import FiLM
from plait.types import Tokens


class Resampler(nn.Module):
    """Learned queries, modulated by a condition, cross-attend to tokens: any number in, ``queries`` out.

    The resampler of Flamingo (https://arxiv.org/abs/2204.14198) with FiLM on its queries, so that the instruction
    decides what is looked for. The cost grows with ``n * queries``, where self-attention grows with ``n * n``.

    >>> tokens = Tokens.valid(torch.randn(2, 256, 128))
    >>> Resampler(dim=128, condition_dim=64, queries=16)(tokens, torch.randn(2, 64)).shape
    torch.Size([2, 16, 128])

    Args:
        dim: width of queries and tokens; divisible by ``heads``.
        condition_dim: width of what modulates the queries.
        queries: how many tokens come out.
        heads: attention heads.
        layers: how many times the queries look; each time they know what they found before.
    """

    def __init__(self, dim: int, condition_dim: int, queries: int = 8, heads: int = 4, layers: int = 2):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, dim))
        self.film = FiLM(condition_dim, dim)
        self.context_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(ResamplerLayer(dim, heads) for _ in range(layers))

    def forward(self, tokens: Tokens, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b queries d"]:
        x, context = self._start(tokens, condition)
        for layer in self.layers:
            x = layer(x, context, tokens.mask)
        return x

    def weights(self, tokens: Tokens, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b layers h queries n"]:
        """Where each layer's queries look; the weights that ``forward`` uses on the same arguments."""
        x, context = self._start(tokens, condition)
        found = []
        for layer in self.layers:
            assert isinstance(layer, ResamplerLayer)
            found.append(layer.attention.weights(layer.query_norm(x), context, tokens.mask))
            x = layer(x, context, tokens.mask)
        return torch.stack(found, dim=1)

    def _start(self, tokens: Tokens, condition: Float[Tensor, "b c"]) -> tuple[Tensor, Tensor]:
        queries = repeat(self.queries, "q d -> b d q 1", b=len(condition))
        return rearrange(self.film(queries, condition), "b d q 1 -> b q d"), self.context_norm(tokens.cleaned())


class ResamplerLayer(nn.Module):
    """Cross-attention and a GELU MLP, each with a pre-normalised residual."""

    def __init__(self, dim: int, heads: int, expansion: int = 4):
        super().__init__()
        self.query_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, expansion * dim), nn.GELU(), nn.Linear(expansion * dim, dim))

    def forward(
        self, x: Float[Tensor, "b q d"], context: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b q d"]:
        x = x + self.attention(self.query_norm(x), context, mask)
        return x + self.mlp(self.mlp_norm(x))
