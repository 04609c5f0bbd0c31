"""Augmentation of image batches, uint8 to uint8: random shift and mild colour jitter, one draw per image.

Shift by padding with the edge and cropping is from Yarats et al., 2021 (DrQ-v2, https://arxiv.org/abs/2107.09645).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from plait.config import refuse_outside
from plait.data.world import ALONE, World


@dataclass(frozen=True)
class Augment:
    """What is drawn for each image, uniformly.

    Attributes:
        shift: pixels, up to this far in each direction.
        brightness: 0 to 1; up to this share of the full range is added or taken away.
        contrast: 0 to 1; the distance to the mean is multiplied by a factor between 1 - value and 1 + value.
        saturation: 0 to 1; the distance to grey is multiplied by a factor between 1 - value and 1 + value.
    """

    shift: int = 4
    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("brightness", "contrast", "saturation"), "[0, 1]")
        refuse_outside(self, "train.augment", shift="[0, inf)", **shares)

    def __call__(
        self, images: UInt8[Tensor, "b h w 3"], generator: Generator, world: World = ALONE
    ) -> UInt8[Tensor, "b h w 3"]:
        """Augmented copies.

        Args:
            images: those of this process, of a batch that is spread over ``world``.
            generator: lives on the CPU and draws for the whole batch, so that neither the device nor the number of
                processes changes what an image gets.
        """
        whole, device = world.size * len(images), images.device
        if self.shift:
            offset = torch.randint(-self.shift, self.shift + 1, (whole, 2), generator=generator)
            images = shift(images, world.part(offset).to(device, non_blocking=True))
        if self.brightness or self.contrast or self.saturation:
            spread = torch.tensor([self.brightness, self.contrast, self.saturation])
            factors = (torch.rand(whole, 3, generator=generator) * 2 - 1) * spread
            images = jitter(images, world.part(factors).to(device, non_blocking=True))
        return images


def shift(images: UInt8[Tensor, "b h w 3"], offset: Int[Tensor, "b 2"]) -> UInt8[Tensor, "b h w 3"]:
    """Move each image by its (rows, columns); the edge's pixels fill what comes in."""
    b, h, w, _ = images.shape
    device = images.device
    rows = (torch.arange(h, device=device) + offset[:, :1]).clamp_(0, h - 1)
    columns = (torch.arange(w, device=device) + offset[:, 1:]).clamp_(0, w - 1)
    starts = (torch.arange(b, device=device)[:, None] * h + rows) * w
    pixel = starts.int()[:, :, None] + columns.int()[:, None, :]  # 32 bits: this is larger than the images
    return images.reshape(-1, 3).index_select(0, pixel.view(-1)).view(images.shape)


def jitter(images: UInt8[Tensor, "b h w 3"], factors: Float[Tensor, "b 3"]) -> UInt8[Tensor, "b h w 3"]:
    """Change brightness, contrast and saturation of each image; factors of 0 change nothing.

    All three together are one map per image: a gain for each pixel, and an offset that depends on its grey. That takes
    few passes over memory, which are what this costs on a GPU.
    """
    brightness, contrast, saturation = factors[:, :, None, None].unbind(1)
    gain, (red, green, blue) = 1 + contrast, images.unbind(-1)
    constant = 127.5 * (1 - gain) + 255 * brightness + 0.5  # 0.5: truncation then rounds
    offset = torch.addcmul(constant, red.short().add_(green).add_(blue), -gain * saturation / 3)
    pixels = torch.addcmul(offset[..., None], images, (gain * (1 + saturation))[..., None])
    return pixels.clamp_(0, 255).to(torch.uint8)
