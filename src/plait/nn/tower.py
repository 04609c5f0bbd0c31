"""Residual convolutions from a camera's grid of tokens to one vector that knows where things are."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from plait.nn.readout import ReadoutName, readout
from plait.types import Shape, Tokens


class ResidualBlock(nn.Module):
    """Convolution and norm, added to the input (He et al., https://arxiv.org/abs/1512.03385)."""

    def __init__(self, channels: int, out: int, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b out smaller_rows smaller_columns"]:
        return (self.shortcut(x) + self.norm(self.convolution(x))).relu()


def residual_stages(
    channels: int,
    grid: tuple[int, int],
    stages: tuple[int, ...],
    depth: int,
    block: Callable[[int, int, int], nn.Module] = ResidualBlock,
) -> tuple[list[nn.Module], int, tuple[int, int]]:
    """Blocks made by ``block(channels, out, stride)``, and the channels and the grid that they end on.

    Args:
        stages: channels of each stage; every stage after the first halves the grid. Empty: no blocks.
        depth: blocks per stage.
    """
    blocks = []
    for index, stage in enumerate(stages):
        for repeat in range(depth):
            stride = 2 if index > 0 and repeat == 0 else 1
            blocks.append(block(channels, stage, stride))
            channels, grid = stage, ((grid[0] - 1) // stride + 1, (grid[1] - 1) // stride + 1)
    return blocks, channels, grid


class Tower(nn.Module):
    """One camera: residual blocks on its grid, then a read-out. It sees nothing but pixels, unless told.

    Args:
        told: width of a vector that is joined with every cell before the first block; 0 for none. To append
            a vector to every cell and project is to add its own projection to every cell, which is what is done.
    """

    def __init__(
        self,
        shape: Shape,
        stages: tuple[int, ...] = (48,),
        depth: int = 1,
        readout_name: ReadoutName = "flatten",
        cells: int = 8,
        width: int = 256,
        told: int = 0,
    ):
        super().__init__()
        assert shape.grid is not None, "a tower needs a grid of image tokens"
        self.tell = nn.Linear(told, shape.dim) if told else None
        blocks, channels, grid = residual_stages(shape.dim, shape.grid, stages, depth)
        self.blocks = nn.Sequential(*blocks)
        self.readout = readout(readout_name, channels, grid, width, cells)

    def forward(self, tokens: Tokens, told: Float[Tensor, "b t"] | None = None) -> Float[Tensor, "b d"]:
        x = tokens.as_map()
        if self.tell is not None:
            x = x + self.tell(told)[:, :, None, None]
        return self.readout(self.blocks(x.relu()))
