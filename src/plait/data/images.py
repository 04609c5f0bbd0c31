"""The one resize function of images."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional


def resize(images: UInt8[Tensor, "b h w 3"], size: tuple[int, int]) -> UInt8[Tensor, "b h2 w2 3"]:
    """Resize to ``size`` = (height, width), bilinear with antialiasing; unchanged (not copied) when it fits already.

    The only resize in plait: ``Policy.prepare`` and the cache both use it, so that training and acting see the same.
    It computes in float32 and rounds, which gives the same picture on every device.
    """
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    pixels = images.permute(0, 3, 1, 2).float()
    resized = functional.interpolate(pixels, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
