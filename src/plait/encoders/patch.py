"""The shallow vision encoder: one strided convolution, trained from scratch, so that words meet pixels early."""

from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.encoders.pixels import PixelNormaliser, grid_tokens
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class PatchConfig:
    """A shallow encoder trained from scratch: one strided convolution, so that words meet pixels early.

    Attributes:
        patch: side of the convolution's window, in pixels.
        stride: pixels from one window to the next, at most patch (smaller than patch: windows overlap).
        width: channels of each token.
    """

    patch: int = 8
    stride: int = 4
    width: int = 48

    def __post_init__(self) -> None:
        refuse_outside(self)
        if self.stride > self.patch:
            rule = f"at most patch ({self.patch}), or pixels between the windows are never seen"
            raise ValueError(f"patch.stride: {self.stride} is too large; {rule}")

    def build(self, size: tuple[int, int], pretrained: bool = True) -> "PatchEncoder":
        return PatchEncoder(size, self.patch, self.stride, self.width)


class PatchEncoder(nn.Module):
    """Overlapping patches through one convolution and batch norm; no activation, the fusion's FiLM comes first."""

    def __init__(self, size: tuple[int, int], patch: int = 8, stride: int = 4, width: int = 48):
        super().__init__()
        self.normalise = PixelNormaliser()
        padding = (patch - stride + 1) // 2
        self.convolution = nn.Conv2d(3, width, patch, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(width)
        rows, columns = ((side + 2 * padding - patch) // stride + 1 for side in size)
        if min(rows, columns) < 1:
            raise ValueError(f"patch.patch: {patch} is too large for images of {min(size)} pixels; make it smaller")
        self.shapes = (Shape(rows * columns, width, (rows, columns)),)

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> tuple[Tokens, ...]:
        return (grid_tokens(self.norm(self.convolution(self.normalise(images)))),)
