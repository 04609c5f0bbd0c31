"""A mixture of experts: a router chooses, for each token, which of several MLPs it passes through."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu


class Router(nn.Module):
    """Chooses ``top_k`` experts for each token, by what the token says and by which modality it comes from."""

    def __init__(self, dim: int, kinds: int, experts: int, top_k: int):
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"experts: top_k = {top_k} is not between 1 and the number of experts ({experts})")
        self.top_k = top_k
        self.token = nn.Linear(dim, experts, bias=False)
        self.kind = nn.Parameter(torch.zeros(kinds, experts))

    def forward(
        self, x: Float[Tensor, "b n d"], kinds: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b n e"]]:
        """Gates (0 for experts that are not chosen) and the probabilities that they were chosen by, in float32.

        The gates are not brought to a sum of 1, so that the router learns even when ``top_k`` is 1
        (Switch Transformer, https://arxiv.org/abs/2101.03961).
        """
        probabilities = (self.token(x).float() + self.kind[kinds]).softmax(dim=-1)
        values, chosen = probabilities.topk(self.top_k, dim=-1)
        return torch.zeros_like(probabilities).scatter(-1, chosen, values), probabilities


class ExpertMlps(nn.Module):
    """All experts side by side: one wide MLP, whose hidden layer the gates scale block by block.

    Every expert sees every token, so no token is ever dropped and no row of a batch depends on another; what
    ``top_k`` saves is interference between modalities, not arithmetic.
    """

    def __init__(self, dim: int, experts: int, expansion: int):
        super().__init__()
        self.up = nn.Linear(dim, experts * expansion * dim)
        self.down = nn.Linear(experts * expansion * dim, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(experts, dim))

    def forward(self, x: Float[Tensor, "b n d"], gates: Float[Tensor, "b n e"]) -> Float[Tensor, "b n d"]:
        gates = gates.to(x.dtype)
        hidden = rearrange(gelu(self.up(x)), "b n (e h) -> b n e h", e=gates.shape[-1])
        return self.down((hidden * gates[..., None]).flatten(2)) + gates @ self.bias


def balance_loss(
    gates: Float[Tensor, "b n e"], probabilities: Float[Tensor, "b n e"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Each expert's share of the work times its mean probability, summed; 1 when all are used equally, ``e`` at most.

    Equation 4 of the Switch Transformer, over the valid tokens of the batch.
    """
    valid = mask[..., None]
    chosen = ((gates > 0) & valid).float().sum(dim=(0, 1))
    probability = torch.where(valid, probabilities, 0.0).sum(dim=(0, 1)) / valid.sum().clamp(min=1)
    return gates.shape[-1] * (chosen / chosen.sum().clamp(min=1) * probability).sum()
