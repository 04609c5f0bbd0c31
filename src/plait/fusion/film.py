"""FiLM fusion: the words (and the state, if wanted) modulate the image features, from the first layer on."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.config import refuse_outside, unknown
from plait.nn.film import FiLM
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName, readout
from plait.nn.tower import residual_stages
from plait.spec import INSTRUCTION, is_camera, module_name
from plait.types import Fused, Shape, Tokens


@dataclass(frozen=True)
class FilmConfig:
    """Residual stages on each camera's grid, every block modulated by a condition: the pooled words.

    Attributes:
        conditions: the modalities whose pooled tokens together are the condition.
        stages: channels of each stage; every stage after the first halves the grid.
        depth: residual blocks per stage.
        readout: how a grid becomes one token.
        cells: rows and columns that the flatten read-out tells apart.
        width: of each fused token.
    """

    conditions: tuple[str, ...] = (INSTRUCTION,)
    stages: tuple[int, ...] = (48,)
    depth: int = 1
    readout: ReadoutName = "flatten"
    cells: int = 8
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self, depth="[0, inf)")
        if not self.conditions:
            raise ValueError(f"film.conditions: () names no modality; say {INSTRUCTION}")

    def build(self, groups: dict[str, Shape]) -> "Film":
        return Film(groups, **vars(self))


class Film(nn.Module):
    """FiLM (Perez et al., https://arxiv.org/abs/1709.07871) as RT-1 uses it for robot instructions
    (https://arxiv.org/abs/2212.06817), but from the first features on: words joined late are ignored.

    One token per modality comes out: each camera's read-out, the state, and the pooled words. Without its conditions
    it would be another fusion, so that groups without them are refused.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        conditions: tuple[str, ...],
        stages: tuple[int, ...],
        depth: int,
        readout: ReadoutName,
        cells: int,
        width: int,
    ):
        super().__init__()
        others = {name: shape for name, shape in groups.items() if not is_camera(name)}
        for name in conditions:
            if name not in others:
                raise ValueError(f"film.conditions: {unknown('modality', name, others)} Or use another fusion.")
        self.conditions, condition = conditions, sum(groups[name].dim for name in conditions)
        towers = {
            name: FilmTower(shape, condition, stages, depth, readout, cells, width)
            for name, shape in groups.items()
            if is_camera(name)
        }
        self.cameras = nn.ModuleDict({module_name(name): tower for name, tower in towers.items()})
        self.others = nn.ModuleDict({name: nn.Linear(shape.dim, width) for name, shape in others.items()})
        self.shape = Shape(len(groups), width, modalities=tuple(groups))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        condition = torch.cat([masked_mean(groups[name]) for name in self.conditions], dim=1)
        tokens = [
            self.cameras[module_name(name)](group, condition)
            if is_camera(name)
            else self.others[name](masked_mean(group))
            for name, group in groups.items()
        ]
        return Fused(Tokens.valid(torch.stack(tokens, dim=1)))


class FilmTower(nn.Module):
    """One camera: FiLM at once, then residual blocks with FiLM, then the read-out."""

    def __init__(
        self,
        shape: Shape,
        condition: int,
        stages: tuple[int, ...],
        depth: int,
        readout_name: ReadoutName,
        cells: int,
        width: int,
    ):
        super().__init__()
        assert shape.grid is not None, "FiLM needs a grid of image tokens"
        self.first = FiLM(condition, shape.dim)
        block = partial(FilmBlock, condition)
        blocks, channels, grid = residual_stages(shape.dim, shape.grid, stages, depth, block)
        self.blocks = nn.ModuleList(blocks)
        self.readout = readout(readout_name, channels, grid, width, cells)

    def forward(self, tokens: Tokens, condition: Float[Tensor, "b w"]) -> Float[Tensor, "b d"]:
        x = self.first(tokens.as_map(), condition).relu()
        for block in self.blocks:
            x = block(x, condition)
        return self.readout(x)


class FilmBlock(nn.Module):
    """Convolution, norm, FiLM, added to the input; no FiLM where ``condition``, the width of its vector, is 0."""

    def __init__(self, condition: int, channels: int, out: int, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.film = FiLM(condition, out) if condition else None
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "b c rows columns"], condition: Float[Tensor, "b w"] | None) -> Tensor:
        new = self.norm(self.convolution(x))
        return (self.shortcut(x) + (new if self.film is None else self.film(new, condition))).relu()
