"""Mixture-of-experts fusion: one transformer over all tokens, in which each token chooses its own MLPs."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.nn.attention import Attention
from plait.nn.experts import ExpertMlps, Router, balance_loss
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName
from plait.nn.sequence import GroupEmbedding, GroupReadout, join, split
from plait.types import Fused, Shape, Tokens


@dataclass(frozen=True)
class ExpertsConfig:
    """A transformer over all tokens whose MLPs are mixtures of experts, routed by token and modality.

    Attributes:
        dim: width of every token inside; a multiple of 4 and of heads.
        heads: attention heads.
        layers: transformer layers.
        experts: MLPs in each layer.
        top_k: how many of them each token passes through.
        expansion: hidden width of one expert, in multiples of dim.
        balance: weight of the load-balancing loss.
        stride: each camera's grid is thinned by this factor before attention; 1 keeps every patch.
        stages: channels of the residual blocks that each camera's grid goes through before it meets anything, one
            each; every one after the first halves the grid. () where the encoder is deep.
        readout: how a camera's grid becomes one token afterwards.
        width: of each fused token.
    """

    dim: int = 96
    heads: int = 4
    layers: int = 2
    experts: int = 4
    top_k: int = 2
    expansion: int = 1
    balance: float = 0.01
    stride: int = 2
    stages: tuple[int, ...] = (48,)
    readout: ReadoutName = "flatten"
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self)

    def build(self, groups: dict[str, Shape]) -> "Experts":
        return Experts(groups, **vars(self))


class Experts(nn.Module):
    """Attention mixes the modalities; experts may specialise in one of them, or not: the router learns it.

    The loss ``balance`` keeps all experts in use. Reads, for each layer: ``attention.<layer>`` ``[b, heads, n, n]``,
    in the order of ``groups``; ``gates.<layer>`` ``[b, n, experts]`` (0 for experts that a token does not use, and for
    padding) and ``load.<layer>`` ``[b, groups, experts]``, the share of each modality's tokens that use each expert (a
    row sums to ``top_k``).
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        dim: int,
        heads: int,
        layers: int,
        experts: int,
        top_k: int,
        expansion: int,
        balance: float,
        stride: int,
        stages: tuple[int, ...],
        readout: ReadoutName,
        width: int,
    ):
        super().__init__()
        self.balance = balance
        self.embed = GroupEmbedding(groups, dim, stride, stages)
        self.layers = nn.ModuleList(
            ExpertsLayer(dim, heads, len(groups), experts, top_k, expansion) for _ in range(layers)
        )
        self.readout = GroupReadout(self.embed.shapes, width, readout)
        self.shape = Shape(len(groups), width, modalities=tuple(groups))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        groups = self.embed(groups)
        joined, kinds = join(groups), _kinds(groups)
        x, mask, losses, read = joined.data, joined.mask, [], {}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, ExpertsLayer)
            if reads:
                read[f"attention.{index}"] = layer.weights(x, mask)
            x, gates, loss = layer(x, mask, kinds)
            losses.append(loss)
            if reads:
                read |= {f"gates.{index}": gates * mask[..., None], f"load.{index}": _load(gates, groups)}
        fused = self.readout(split(x, groups))
        return Fused(fused, {"balance": self.balance * torch.stack(losses).mean()}, read)


class ExpertsLayer(nn.Module):
    """Self-attention and a mixture of experts, each with a pre-normalised residual."""

    def __init__(self, dim: int, heads: int, kinds: int, experts: int, top_k: int, expansion: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.router = Router(dim, kinds, experts, top_k)
        self.mlp = ExpertMlps(dim, experts, expansion)

    def forward(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"], kinds: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n e"], Float[Tensor, ""]]:
        """The tokens, their gates, and the load-balancing loss."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, mask)
        normed = self.mlp_norm(x)
        gates, probabilities = self.router(normed, kinds)
        return x + self.mlp(normed, gates), gates, balance_loss(gates, probabilities, mask)

    def weights(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b h n n"]:
        """The attention weights that ``forward`` uses on the same arguments."""
        normed = self.attention_norm(x)
        return self.attention.weights(normed, normed, mask)


def _kinds(groups: dict[str, Tokens]) -> Int[Tensor, " n"]:
    """The number of each token's modality."""
    masks = [group.mask for group in groups.values()]
    return torch.cat([torch.full_like(mask[0], kind, dtype=torch.long) for kind, mask in enumerate(masks)])


def _load(gates: Float[Tensor, "b n e"], groups: dict[str, Tokens]) -> Float[Tensor, "b groups e"]:
    return torch.stack([masked_mean(part) for part in split((gates > 0).float(), groups).values()], dim=1)
