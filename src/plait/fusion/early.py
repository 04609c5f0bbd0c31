"""Early fusion: everything is joined at the input, and one network learns from all of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.nn.pooling import masked_mean
from plait.nn.readout import ReadoutName
from plait.nn.tower import Tower
from plait.spec import is_camera, module_name
from plait.types import Fused, Shape, Tokens


@dataclass(frozen=True)
class EarlyConfig:
    """Words and state join every cell of each camera's grid at the input; residual blocks learn from the result.

    Attributes:
        stages: channels of each stage of blocks; every stage after the first halves the grid.
        depth: residual blocks per stage.
        readout: how a grid becomes one token.
        cells: rows and columns that the flatten read-out tells apart.
        width: of each fused token.
    """

    stages: tuple[int, ...] = (48,)
    depth: int = 1
    readout: ReadoutName = "flatten"
    cells: int = 8
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self, depth="[0, inf)")

    def build(self, groups: dict[str, Shape]) -> "Early":
        return Early(groups, **vars(self))


class EarlyFusion(nn.Module):
    """The tutorial's early fusion: two vectors are joined, one perceptron learns from both. A policy has ``Early``.

    >>> EarlyFusion(vision_dim=768, text_dim=768, hidden_dim=512)(torch.randn(2, 768), torch.randn(2, 768)).shape
    torch.Size([2, 256])
    """

    def __init__(self, vision_dim: int = 768, text_dim: int = 768, hidden_dim: int = 512, output_dim: int = 256):
        super().__init__()
        self.join = nn.Linear(vision_dim + text_dim, hidden_dim)
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim)
        )

    def forward(self, vision: Float[Tensor, "b v"], text: Float[Tensor, "b t"]) -> Float[Tensor, "b o"]:
        return self.layers(self.join(torch.cat([vision, text], dim=-1)))


class Early(nn.Module):
    """Early fusion in a policy, which has to know where things are: the pooled image of ``EarlyFusion`` does not tell.

    What is told and felt (the mean word and the state) is broadcast onto every cell of the grid before the first
    block. Where the vision encoder is shallow, as the patch encoder is, that is the input of all that is learned.
    One token per modality comes out; a camera's also knows what was told and felt, if anything was.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        stages: tuple[int, ...],
        depth: int,
        readout: ReadoutName,
        cells: int,
        width: int,
    ):
        super().__init__()
        cameras = {name: shape for name, shape in groups.items() if is_camera(name)}
        others = {name: shape for name, shape in groups.items() if not is_camera(name)}
        told = sum(shape.dim for shape in others.values())
        towers = {n: Tower(shape, stages, depth, readout, cells, width, told) for n, shape in cameras.items()}
        self.cameras = nn.ModuleDict({module_name(name): tower for name, tower in towers.items()})
        self.others = nn.ModuleDict({name: nn.Linear(shape.dim, width) for name, shape in others.items()})
        self.shape = Shape(len(groups), width, modalities=tuple(groups))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        means = {name: masked_mean(groups[name]) for name in self.others}
        told = torch.cat(list(means.values()), dim=-1) if means else None
        tokens = [
            self.cameras[module_name(name)](group, told) if is_camera(name) else self.others[name](means[name])
            for name, group in groups.items()
        ]
        return Fused(Tokens.valid(torch.stack(tokens, dim=1)))
