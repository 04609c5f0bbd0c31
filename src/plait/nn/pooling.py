"""From many tokens to one vector."""

from jaxtyping import Float
from torch import Tensor

from plait.types import Tokens


def masked_mean(tokens: Tokens) -> Float[Tensor, "b d"]:
    """The mean over valid positions; a row without any gives zeros."""
    count = tokens.mask.sum(dim=1, keepdim=True).clamp(min=1)
    return tokens.cleaned().sum(dim=1) / count
