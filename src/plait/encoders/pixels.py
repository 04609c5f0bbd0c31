"""Between pixels and tokens: what every vision encoder begins and ends with."""

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from plait.types import Tokens


class PixelNormaliser(nn.Module):
    """uint8 ``[b h w 3]`` -> float ``[b 3 h w]``, standardised per channel. The layout stays channels-last."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.25, 0.25, 0.25)):
        super().__init__()
        centre, spread = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * spread))
        self.register_buffer("offset", -centre / spread)

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
        return torch.addcmul(self.offset, images.permute(0, 3, 1, 2), self.scale)


def grid_tokens(features: Float[Tensor, "b d rows columns"]) -> Tokens:
    """A feature map as valid tokens, row by row."""
    tokens = rearrange(features, "b d rows columns -> b (rows columns) d")
    return Tokens.valid(tokens, grid=(features.shape[2], features.shape[3]))
