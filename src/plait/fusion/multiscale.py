"""Multi-scale fusion: a pyramid of feature maps for each camera, the words modulating every level."""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from plait.config import refuse_outside
from plait.fusion.film import FilmBlock
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName, readout
from plait.spec import INSTRUCTION, group_modality, is_camera, module_name
from plait.types import Fused, Shape, Tokens


@dataclass(frozen=True)
class MultiscaleConfig:
    """A pyramid of each camera's features at several resolutions, every level modulated by the words and read out.

    Attributes:
        levels: of the pyramid that is built where the vision encoder gives one grid; where it gives several,
            these are the levels.
        channels: of every level.
        readout: how a level becomes one token.
        cells: rows and columns that the flatten read-out tells apart.
        width: of each fused token.
    """

    levels: int = 3
    channels: int = 48
    readout: ReadoutName = "flatten"
    cells: int = 8
    width: int = 128

    def __post_init__(self) -> None:
        refuse_outside(self)

    def build(self, groups: dict[str, Shape]) -> "Multiscale":
        return Multiscale(groups, **vars(self))


class Multiscale(nn.Module):
    """One token for each level of each camera, finest first, and one each for the state and the pooled words.

    Where there is no instruction, nothing modulates the pyramid.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        levels: int,
        channels: int,
        readout: ReadoutName,
        cells: int,
        width: int,
    ):
        super().__init__()
        words = groups[INSTRUCTION].dim if INSTRUCTION in groups else 0
        self.levels = _levels(groups)
        pyramids = {
            camera: Pyramid([groups[name] for name in names], words, levels, channels, readout, cells, width)
            for camera, names in self.levels.items()
        }
        self.cameras = nn.ModuleDict({module_name(camera): pyramid for camera, pyramid in pyramids.items()})
        self.others = nn.ModuleDict(
            {name: nn.Linear(shape.dim, width) for name, shape in groups.items() if not is_camera(name)}
        )
        modalities = [camera for camera, pyramid in pyramids.items() for _ in pyramid.readouts] + list(self.others)
        self.shape = Shape(len(modalities), width, modalities=tuple(modalities))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        words = masked_mean(groups[INSTRUCTION]) if INSTRUCTION in groups else None
        tokens = [
            self.cameras[module_name(camera)]([groups[name] for name in names], words)
            for camera, names in self.levels.items()
        ]
        tokens += [project(masked_mean(groups[name]))[:, None] for name, project in self.others.items()]
        return Fused(Tokens.valid(torch.cat(tokens, dim=1)))


class Pyramid(nn.Module):
    """One camera: fine details below, context above, as a feature pyramid network (https://arxiv.org/abs/1612.03144).

    Upwards, each level is a grid of the encoder or, above its last one, a strided convolution of the level below.
    Downwards, each level gets what the level above it saw.

    Args:
        shapes: the encoder's grids of this camera, finest first.
        condition: width of the vector that modulates every block; 0 for none.
        levels: how many there are to be when ``shapes`` holds one grid.
    """

    def __init__(
        self,
        shapes: list[Shape],
        condition: int,
        levels: int,
        channels: int,
        readout_name: ReadoutName,
        cells: int,
        width: int,
    ):
        super().__init__()
        grids = [shape.grid for shape in shapes if shape.grid]
        built = levels - 1 if len(shapes) == 1 else 0
        for _ in range(built):
            rows, columns = grids[-1]
            grids.append(((rows - 1) // 2 + 1, (columns - 1) // 2 + 1))
        self.enter = nn.ModuleList(FilmBlock(condition, shape.dim, channels) for shape in shapes)
        self.up = nn.ModuleList(FilmBlock(condition, channels, channels, stride=2) for _ in range(built))
        self.merge = nn.ModuleList(FilmBlock(condition, channels, channels) for _ in grids)
        self.readouts = nn.ModuleList(readout(readout_name, channels, grid, width, cells) for grid in grids)

    def forward(self, grids: list[Tokens], condition: Float[Tensor, "b w"] | None) -> Float[Tensor, "b levels d"]:
        maps = [enter(grid.as_map(), condition) for enter, grid in zip(self.enter, grids, strict=True)]
        for up in self.up:
            maps.append(up(maps[-1], condition))
        for level in reversed(range(len(maps) - 1)):
            maps[level] = maps[level] + interpolate(maps[level + 1], size=maps[level].shape[-2:])
        layers = zip(self.merge, self.readouts, maps, strict=True)
        return torch.stack([read(merge(x, condition)) for merge, read, x in layers], dim=1)


def _levels(groups: dict[str, Shape]) -> dict[str, list[str]]:
    """Camera modality -> its groups, finest grid first."""
    cameras: dict[str, list[str]] = {}
    for name in sorted(filter(is_camera, groups), key=lambda name: -prod(groups[name].grid or (1,))):
        cameras.setdefault(group_modality(name), []).append(name)
    return cameras
