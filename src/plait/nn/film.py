"""Feature-wise linear modulation: a condition scales and shifts the channels of a feature map."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FiLM(nn.Module):
    """``x * (1 + scale) + shift``, both linear in the condition (Perez et al., https://arxiv.org/abs/1709.07871).

    It starts as the identity on average (small weights), so that the map it modulates can be learned from the
    first step while the condition already matters.
    """

    def __init__(self, condition_dim: int, channels: int):
        super().__init__()
        self.scale_shift = nn.Linear(condition_dim, 2 * channels)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(
        self, x: Float[Tensor, "b c rows columns"], condition: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c rows columns"]:
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)  # one pass over the map instead of two
