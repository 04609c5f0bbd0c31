"""Mixture head: several whole chunks, each with a probability; the most probable one is acted on."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from plait.config import refuse_outside
from plait.heads.chunk import cleaned
from plait.heads.regression import perceptron
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class MixtureConfig:
    """A mixture of Gaussians over whole chunks.

    Attributes:
        components: ways that can be told apart.
        hidden: width of each hidden layer.
        layers: number of hidden layers.
        floor: smallest standard deviation, of normalised actions; keeps the likelihood finite.
        drawn: act on a component drawn by its probability, instead of the most probable one.
    """

    components: int = 5
    hidden: int = 256
    layers: int = 1
    floor: float = 0.05
    drawn: bool = False

    def __post_init__(self) -> None:
        refuse_outside(self, layers="[0, inf)", floor="(0, inf)")

    def build(self, shape: Shape, horizon: int, actions: int) -> "Mixture":
        return Mixture(shape, horizon, actions, **vars(self))


class Mixture(nn.Module):
    """A mixture density network (Bishop 1994, https://publications.aston.ac.uk/id/eprint/373/) on the joined tokens.

    A component is a whole chunk with one deviation per entry and step, so that its steps belong together.
    """

    def __init__(
        self,
        shape: Shape,
        horizon: int,
        actions: int,
        components: int = 5,
        hidden: int = 256,
        layers: int = 1,
        floor: float = 0.05,
        drawn: bool = False,
    ):
        super().__init__()
        self.horizon, self.components, self.floor, self.drawn = horizon, components, floor, drawn
        self.layers = perceptron(shape.n * shape.dim, hidden, layers, components * (1 + 2 * horizon * actions))

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        """The mean of one component: never an average over several."""
        log_weight, mean, _ = self.mixture(tokens)
        if self.drawn:  # the Gumbel trick: the largest of these is a draw from the weights
            log_weight = log_weight - torch.empty_like(log_weight).exponential_().log()
        best = log_weight.argmax(dim=1)
        return mean[torch.arange(len(best), device=best.device), best]

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]:
        """The negative log-likelihood of the valid steps, per action entry."""
        log_weight, mean, deviation = self.mixture(tokens)
        distance = (cleaned(action, mask)[:, None] - mean) / deviation
        density = -0.5 * distance.square() - deviation.log() - 0.5 * math.log(2 * math.pi)
        chunk = (density * mask[:, None, :, None]).sum(dim=(2, 3))
        return -(log_weight + chunk).logsumexp(dim=1).sum() / (mask.sum() * action.shape[-1]).clamp(min=1)

    def mixture(
        self, tokens: Tokens
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k horizon a"], Float[Tensor, "b k horizon a"]]:
        """Each component's log-probability, mean and standard deviation, in float32 whatever the precision.

        The deviation grows linearly from its floor (softplus): neither can it overflow, as an exponential would, nor
        does it lose its gradient at a border, as it would with a clamp.
        """
        flat = self.layers(tokens.cleaned().flatten(1)).float()
        logits, rest = flat.split([self.components, flat.shape[1] - self.components], dim=1)
        mean, spread = rearrange(rest, "b (p k h a) -> p b k h a", p=2, k=self.components, h=self.horizon)
        return logits.log_softmax(dim=1), mean, self.floor + softplus(spread)
