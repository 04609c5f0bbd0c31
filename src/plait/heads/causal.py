"""The causal form of the discrete head: one action entry after another, each knowing those before it."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.heads.chunk import cleaned, step_mean
from plait.nn.attention import Read
from plait.nn.bins import Bins
from plait.nn.decoder import Context, DecoderLayers
from plait.types import Shape, Tokens


class Causal(nn.Module):
    """A small transformer decoder over the entries of the chunk, step by step, which attends to the fused tokens.

    It acts greedily: every entry is the most probable one after those that were chosen before it.
    """

    def __init__(
        self, shape: Shape, horizon: int, actions: int, bins: Bins, width: int = 128, layers: int = 2, heads: int = 4
    ):
        super().__init__()
        self.horizon, self.bins = horizon, bins
        self.context = Context(shape, width)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.places = nn.Parameter(0.02 * torch.randn(horizon * actions, width))
        self.embed = nn.Linear(len(bins), width, bias=False)
        self.layers = DecoderLayers(layers, width, heads)
        self.classify = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(bins)))

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy over valid steps and all action entries, each told the true ones before it."""
        entries, reads = rearrange(cleaned(action, mask), "b h a -> b (h a)"), self.layers.read(self.context(tokens))
        start = self.start.expand(len(entries), 1, -1)
        x = torch.cat([start, self.embed(self.bins.shares(entries[:, :-1]))], dim=1) + self.places
        before = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril().expand(len(x), -1, -1)
        for layer, read in zip(self.layers, reads, strict=True):
            x = layer(x, x, before, read)
        error = self.bins.loss(self.classify(x), entries)
        return step_mean(rearrange(error, "b (h a) -> b h a", h=self.horizon).mean(dim=-1), mask)

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        reads, new = self.layers.read(self.context(tokens)), self.start.expand(len(tokens.mask), 1, -1)
        seen = [new[:, :0] for _ in self.layers]  # what each layer was given so far
        entries = []
        for place in self.places:
            entries.append(self._next(new + place, seen, reads))
            new = self.embed(self.bins.shares(entries[-1]))
        return rearrange(torch.cat(entries, dim=1), "b (h a) -> b h a", h=self.horizon)

    def _next(self, x: Float[Tensor, "b 1 d"], seen: list[Tensor], reads: list[Read]) -> Float[Tensor, "b 1"]:
        """The entry that is written at ``x``; each layer's input joins ``seen``."""
        for index, (layer, read) in enumerate(zip(self.layers, reads, strict=True)):
            seen[index] = torch.cat([seen[index], x], dim=1)
            x = layer(x, seen[index], None, read)
        return self.bins.value(self.classify(x).float())
