"""Auxiliary head: where will the hand be when the gripper next closes? It teaches the fusion to find the object."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from plait.heads.regression import perceptron
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class GraspConfig:
    """The target comes from the demonstrations alone: the recorded pose at the episode's next gripper closing.

    Attributes:
        weight: of this loss beside the action's.
        hidden: width of the hidden layer.
    """

    weight: float = 1.0
    hidden: int = 128

    def build(self, shape: Shape) -> "GraspHead":
        return GraspHead(shape, self.hidden)


class GraspHead(nn.Module):
    """Predicts a position in normalised state units; used in training only, never by the actions."""

    def __init__(self, shape: Shape, hidden: int = 128):
        super().__init__()
        self.layers = perceptron(shape.n * shape.dim, hidden, 1, 3)

    def forward(self, tokens: Tokens) -> Float[Tensor, "b 3"]:
        return self.layers(tokens.cleaned().flatten(1))

    def loss(self, tokens: Tokens, target: Float[Tensor, "b 3"], mask: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
        """The mean absolute error over the rows that have a next closing."""
        error = l1_loss(self(tokens).float(), target, reduction="none").mean(dim=-1)
        return (error * mask).sum() / mask.sum().clamp(min=1)
