"""Discrete head: every entry of every step is one of many bins, as words are; a class cannot lie between two ways."""

from dataclasses import dataclass
from typing import Literal

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.heads.causal import Causal
from plait.heads.chunk import cleaned, step_mean
from plait.heads.regression import perceptron
from plait.nn.bins import Bins
from plait.types import Shape, Tokens

FormName = Literal["parallel", "tokens", "causal"]


@dataclass(frozen=True)
class DiscreteConfig:
    """Classification into bins: all entries at once, or one after another.

    Attributes:
        form: parallel (from all fused tokens), tokens (step k from fused token k, for a fusion that gives one token
            per step: unified with as many actions as the chunk has steps), or causal (one entry after another, each
            knowing those before it: slower, but steps and entries agree on one way).
        bins: per entry; RT-1 (https://arxiv.org/abs/2212.06817) and OpenVLA (https://arxiv.org/abs/2406.09246) use 256.
        limit: largest normalised action.
        hidden: width of the hidden layer (parallel, tokens).
        width: of what each step, or each entry (causal), is classified from.
        layers: of the decoder (causal).
        heads: of its attention (causal).
    """

    form: FormName = "parallel"
    bins: int = 256
    limit: float = 30.0
    hidden: int = 256
    width: int = 128
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        refuse_outside(self, bins="[3, inf)", limit="(0, inf)")

    def build(self, shape: Shape, horizon: int, actions: int) -> "Discrete | Causal":
        bins = Bins(self.bins, self.limit)
        if self.form == "causal":
            return Causal(shape, horizon, actions, bins, self.width, self.layers, self.heads)
        return Discrete(shape, horizon, actions, bins, self.hidden, self.width, self.form == "tokens")


class Discrete(nn.Module):
    """All steps and entries at once. Each chooses its bin on its own.

    Args:
        own_token: step k is classified from fused token k alone.
    """

    def __init__(
        self, shape: Shape, horizon: int, actions: int, bins: Bins, hidden: int, width: int, own_token: bool = False
    ):
        super().__init__()
        if own_token and shape.n != horizon:
            raise ValueError(
                f"discrete: form 'tokens' needs one fused token per step, but the fusion gives {shape.n} and the chunk "
                f"has {horizon} steps; use --fusion unified --fusion.actions {horizon}, or --head.form parallel"
            )
        self.actions, self.bins = actions, bins
        self.steps = (
            perceptron(shape.dim, hidden, 1, width)
            if own_token
            else nn.Sequential(
                nn.Flatten(),
                perceptron(shape.n * shape.dim, hidden, 1, horizon * width),
                nn.Unflatten(1, (horizon, width)),
            )
        )
        self.classify = nn.Sequential(nn.ReLU(), nn.Linear(width, actions * len(bins)))

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        return self.bins.value(self._logits(tokens))

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy over valid steps of the chunk and all action entries."""
        return step_mean(self.bins.loss(self._logits(tokens), cleaned(action, mask)).mean(dim=-1), mask)

    def _logits(self, tokens: Tokens) -> Float[Tensor, "b horizon a bins"]:
        flat = self.classify(self.steps(tokens.cleaned()))
        return rearrange(flat, "b h (a bins) -> b h a bins", a=self.actions).float()
