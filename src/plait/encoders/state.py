"""State encoder: the robot's own joints and pose as one token."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class StateConfig:
    """A two-layer perceptron.

    Attributes:
        width: of the hidden layer and of the token.
    """

    width: int = 64

    def __post_init__(self) -> None:
        refuse_outside(self)

    def build(self, entries: int) -> "StateEncoder":
        return StateEncoder(entries, self.width)


class StateEncoder(nn.Module):
    def __init__(self, entries: int, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(entries, width), nn.ReLU(), nn.Linear(width, width))
        self.shape = Shape(1, width)

    def forward(self, state: Float[Tensor, "b s"]) -> Tokens:
        return Tokens.valid(self.layers(state)[:, None])
