"""A map over the picture that it was computed from: bright where the policy looks, dark where it does not.

Objects keep their colours, which the words speak of, and no scale of colours has to be learned.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from plait.diagnose.pointing import magnified

DARK = 0.22  # what remains of the brightness where nothing is looked at


def overlaid(
    picture: UInt8[np.ndarray, "h w 3"], maps: Float[Tensor, "words rows columns"], side: int
) -> list[NDArray[np.uint8]]:
    """``uint8 [height, side, 3]`` for each word: the picture this wide, lit by the word's map. All have one scale: the
    highest value of any leaves the picture as it is.
    """
    large = enlarged(picture, side)
    light = magnified(maps.float(), large.shape[:2])
    light = DARK + (1 - DARK) * light / light.max().clamp(min=torch.finfo(light.dtype).tiny)
    return [(large * each[..., None]).round().astype(np.uint8) for each in light.numpy()]


def enlarged(picture: UInt8[np.ndarray, "h w 3"], side: int) -> NDArray[np.uint8]:
    """The picture ``side`` pixels wide."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((side, round(side * height / width)), Image.Resampling.BICUBIC))
