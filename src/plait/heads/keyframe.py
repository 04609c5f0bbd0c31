"""Auxiliary head: where will the hand be at the next keyframes? It teaches the fusion to find what is named."""

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from plait.config import refuse_outside
from plait.data.targets import KEYFRAMES
from plait.heads.regression import perceptron
from plait.nn.normaliser import Normaliser
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class KeyframeConfig:
    """A keyframe is where the gripper changes (James & Davison, https://arxiv.org/abs/2105.14829).

    The target comes from the demonstrations alone: the recorded pose at that moment. This loss makes short trainings
    much better and long ones not (benchmarks/results, composition).

    Attributes:
        weight: of this loss beside the action's.
        hidden: width of the hidden layer.
        ahead: how many of the next keyframes are predicted.
    """

    weight: float = 1.0
    hidden: int = 128
    ahead: int = KEYFRAMES

    def __post_init__(self) -> None:
        refuse_outside(self, ahead=f"[1, {KEYFRAMES}]")

    def build(self, shape: Shape, normalise: Normaliser) -> "KeyframeHead":
        return KeyframeHead(shape, normalise, self.weight, self.hidden, self.ahead)


class KeyframeHead(nn.Module):
    """Predicts positions; used in training only, never by the actions.

    Args:
        normalise: of the hand's x, y, z.
    """

    def __init__(
        self,
        shape: Shape,
        normalise: Normaliser,
        weight: float = 1.0,
        hidden: int = 128,
        ahead: int = 2,
    ):
        super().__init__()
        self.normalise, self.weight, self.ahead = normalise, weight, ahead
        self.layers = perceptron(shape.n * shape.dim, hidden, 1, 3 * ahead)

    def forward(self, tokens: Tokens) -> Float[Tensor, "b ahead 3"]:
        """The positions in the units of the state."""
        return self.normalise.denormalise(self._normalised(tokens))

    def loss(self, tokens: Tokens, position: Float[Tensor, "b k 3"], known: Bool[Tensor, "b k"]) -> Float[Tensor, ""]:
        """The mean absolute error, in normalised units, over the keyframes that are known."""
        position, known = position[:, : self.ahead], known[:, : self.ahead]
        error = l1_loss(self._normalised(tokens), self.normalise.normalise(position), reduction="none").mean(dim=-1)
        return (error * known).sum() / known.sum().clamp(min=1)

    def _normalised(self, tokens: Tokens) -> Float[Tensor, "b ahead 3"]:
        return rearrange(self.layers(tokens.cleaned().flatten(1)).float(), "b (k p) -> b k p", p=3)
