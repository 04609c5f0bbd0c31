"""A few queries, chosen by the words, gather what they need from many tokens."""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.nn.film import FiLM
from plait.nn.positions import grid_coordinates
from plait.types import Tokens


class Resampler(nn.Module):
    """Learned queries, modulated by a condition, cross-attend to tokens: any number in, ``queries`` out.

    The resampler of Flamingo (https://arxiv.org/abs/2204.14198) with FiLM on its queries, so that the instruction
    decides what is looked for. The cost grows with ``n * queries``, where self-attention grows with ``n * n``.

    Of image tokens each query is also told *where* it looked: the mean place under each head's weights (the spatial
    soft-argmax of https://arxiv.org/abs/1504.00702). What it gathers is a mean over patches, from which a head has to
    guess that; on the tabletop a policy without it does not find the object.

    >>> tokens = Tokens.valid(torch.randn(2, 256, 128))
    >>> Resampler(dim=128, condition_dim=64, queries=16)(tokens, torch.randn(2, 64)).shape
    torch.Size([2, 16, 128])

    Args:
        dim: width of queries and tokens; divisible by ``heads``.
        condition_dim: width of what modulates the queries.
        queries: how many tokens come out.
        heads: attention heads.
        layers: how many times the queries look; each time they know what they found before.
        grid: of image tokens; None: tokens have no place.
    """

    places: Tensor | None

    def __init__(
        self,
        dim: int,
        condition_dim: int,
        queries: int = 8,
        heads: int = 4,
        layers: int = 2,
        grid: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, dim))
        self.film = FiLM(condition_dim, dim)
        self.context_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(ResamplerLayer(dim, heads, grid is not None) for _ in range(layers))
        self.register_buffer("places", grid_coordinates(grid) if grid else None, persistent=False)

    def forward(self, tokens: Tokens, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b queries d"]:
        x, context = self._start(tokens, condition)
        for layer in self.layers:
            x, _ = layer(x, context, tokens.mask, self.places)
        return x

    def weights(self, tokens: Tokens, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b layers h queries n"]:
        """Where each layer's queries look; the weights that ``forward`` uses on the same arguments."""
        x, context = self._start(tokens, condition)
        found = []
        for layer in self.layers:
            x, weights = layer(x, context, tokens.mask, self.places)
            found.append(weights)
        return torch.stack(found, dim=1)

    def _start(self, tokens: Tokens, condition: Float[Tensor, "b c"]) -> tuple[Tensor, Tensor]:
        queries = repeat(self.queries, "q d -> b d q 1", b=len(condition))
        return rearrange(self.film(queries, condition), "b d q 1 -> b q d"), self.context_norm(tokens.cleaned())


class ResamplerLayer(nn.Module):
    """Cross-attention and a GELU MLP, each with a pre-normalised residual. The weights are few, and returned."""

    def __init__(self, dim: int, heads: int, placed: bool, expansion: int = 4):
        super().__init__()
        self.query_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.where = nn.Linear(2 * heads, dim) if placed else None
        self.mlp = nn.Sequential(nn.Linear(dim, expansion * dim), nn.GELU(), nn.Linear(expansion * dim, dim))

    def forward(
        self,
        x: Float[Tensor, "b q d"],
        context: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
        places: Float[Tensor, "n 2"] | None,
    ) -> tuple[Float[Tensor, "b q d"], Float[Tensor, "b h q n"]]:
        read = self.attention.read(context, mask)
        weights = self.attention.look(self.query_norm(x), read)
        x = x + self.attention.mix(weights, read)
        if self.where is not None and places is not None:
            x = x + self.where(rearrange(weights @ places, "b h q xy -> b q (h xy)"))
        return x + self.mlp(self.mlp_norm(x)), weights
