"""Regression head: the whole chunk of actions in one step."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import huber_loss, l1_loss, mse_loss

from plait.config import refuse_outside
from plait.heads.chunk import cleaned, step_mean
from plait.nn.noise import Dropout
from plait.types import Shape, Tokens

LossName = Literal["l1", "mse", "huber"]


@dataclass(frozen=True)
class RegressionConfig:
    """A perceptron on the joined fused tokens.

    Attributes:
        hidden: width of each hidden layer.
        layers: number of hidden layers.
        loss: l1 (OpenVLA-OFT, https://arxiv.org/abs/2502.19645), mse or huber.
        dropout: after each hidden layer.
    """

    hidden: int = 256
    layers: int = 1
    loss: LossName = "l1"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        refuse_outside(self, layers="[0, inf)", dropout="[0, 1)")

    def build(self, shape: Shape, horizon: int, actions: int) -> "Regression":
        return Regression(shape, horizon, actions, self.hidden, self.layers, self.loss, self.dropout)


class Regression(nn.Module):
    """Predicts ``horizon`` actions at once, in normalised units."""

    def __init__(
        self,
        shape: Shape,
        horizon: int,
        actions: int,
        hidden: int = 256,
        layers: int = 1,
        loss: LossName = "l1",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.horizon, self.error = horizon, {"l1": l1_loss, "mse": mse_loss, "huber": huber_loss}[loss]
        self.layers = perceptron(shape.n * shape.dim, hidden, layers, horizon * actions, dropout)

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        flat = self.layers(tokens.cleaned().flatten(1))
        return rearrange(flat, "b (horizon a) -> b horizon a", horizon=self.horizon)

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]:
        """The mean error over valid steps of the chunk and all action entries."""
        error = self.error(self.act(tokens).float(), cleaned(action, mask), reduction="none").mean(dim=-1)
        return step_mean(error, mask)


def perceptron(inputs: int, hidden: int, layers: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear, ReLU, dropout, ``layers`` times, and a last linear layer. The first ReLU is on the inputs."""
    widths = [inputs] + [hidden] * layers
    blocks: list[nn.Module] = [nn.ReLU()]
    for before, after in pairwise(widths):
        blocks += [nn.Linear(before, after), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*blocks, nn.Linear(widths[-1], outputs))
