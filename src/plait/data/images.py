"""Images: the one resize function, and PNG in and out."""

import cv2
import numpy as np
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


def encode_png(image: np.ndarray) -> bytes:
    """uint8 ``[h, w, 3]`` RGB -> PNG bytes. Rendered pictures are flat: no filter is both quickest and smallest."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def decode_png(data: bytes) -> np.ndarray | None:
    """PNG (or JPEG) bytes -> uint8 ``[h, w, 3]`` RGB; None when the bytes are not an image."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
