"""Auxiliary head: where will the hand be at the next keyframes? It teaches the fusion to find what is named."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from plait.data.targets import KEYFRAMES
from plait.heads.regression import perceptron
from plait.nn.normaliser import Normaliser
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class KeyframeConfig:
    """A keyframe is where the gripper changes (James & Davison, https://arxiv.org/abs/2105.14829).

    The target comes from the demonstrations alone: the recorded pose at that moment.

    Attributes:
        weight: of this loss beside the action's.
        hidden: width of the hidden layer.
        ahead: how many of the next keyframes are predicted.
        fades: the weight falls linearly to zero over the training. The loss speeds up the beginning; in a long training
            it holds back the end (benchmarks/results, composition).
    """

    weight: float = 1.0
    hidden: int = 128
    ahead: int = KEYFRAMES
    fades: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.ahead <= KEYFRAMES:
            raise ValueError(f"keyframe.ahead: {self.ahead} is not between 1 and {KEYFRAMES}")

    def build(self, shape: Shape, normalise: Normaliser) -> "KeyframeHead":
        return KeyframeHead(shape, normalise, self.weight, self.hidden, self.ahead, self.fades)


class KeyframeHead(nn.Module):
    """Predicts positions; used in training only, never by the actions.

    Args:
        normalise: of the hand's x, y, z.
    """

    weight: Tensor

    def __init__(
        self,
        shape: Shape,
        normalise: Normaliser,
        weight: float = 1.0,
        hidden: int = 128,
        ahead: int = 2,
        fades: bool = False,
    ):
        super().__init__()
        self.normalise, self.ahead, self.full_weight, self.fades = normalise, ahead, weight, fades
        self.register_buffer("weight", torch.tensor(weight), persistent=False)  # a recorded update reads it there
        self.layers = perceptron(shape.n * shape.dim, hidden, 1, 3 * ahead)

    def forward(self, tokens: Tokens) -> Float[Tensor, "b ahead 3"]:
        """The positions in the units of the state."""
        return self.normalise.denormalise(self._normalised(tokens))

    def progress(self, share: float) -> None:
        """This share of the training is over."""
        if self.fades:
            self.weight.fill_(self.full_weight * (1 - share))

    def loss(self, tokens: Tokens, position: Float[Tensor, "b k 3"], known: Bool[Tensor, "b k"]) -> Float[Tensor, ""]:
        """The mean absolute error, in normalised units, over the keyframes that are known."""
        position, known = position[:, : self.ahead], known[:, : self.ahead]
        error = l1_loss(self._normalised(tokens), self.normalise.normalise(position), reduction="none").mean(dim=-1)
        return (error * known).sum() / known.sum().clamp(min=1)

    def _normalised(self, tokens: Tokens) -> Float[Tensor, "b ahead 3"]:
        return rearrange(self.layers(tokens.cleaned().flatten(1)).float(), "b (k p) -> b k p", p=3)
