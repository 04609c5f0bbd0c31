"""Late fusion: every modality is encoded on its own; they meet only at the end."""

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
class LateConfig:
    """Each modality becomes one vector without knowing of the others; only then a perceptron joins the vectors.

    Attributes:
        stages: channels of each stage of a camera's residual blocks; every stage after the first halves the grid.
        depth: residual blocks per stage.
        readout: how a grid becomes one vector.
        cells: rows and columns that the flatten read-out tells apart.
        width: of each modality's vector, of the layers that join them, and of each fused token.
    """

    stages: tuple[int, ...] = (48,)
    depth: int = 1
    readout: ReadoutName = "flatten"
    cells: int = 8
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self, depth="[0, inf)")

    def build(self, groups: dict[str, Shape]) -> "Late":
        return Late(groups, **vars(self))


class LateFusion(nn.Module):
    """The tutorial's late fusion: each vector has its own layer; the results are joined. A policy has ``Late``.

    The ReLU after a modality's own layer makes it late: two linear layers in a row would be one, on joined inputs.

    >>> LateFusion(vision_dim=768, text_dim=768, hidden_dim=512)(torch.randn(2, 768), torch.randn(2, 768)).shape
    torch.Size([2, 256])
    """

    def __init__(self, vision_dim: int = 768, text_dim: int = 768, hidden_dim: int = 512, output_dim: int = 256):
        super().__init__()
        self.vision, self.text = nn.Linear(vision_dim, hidden_dim), nn.Linear(text_dim, hidden_dim)
        self.join = join(2 * hidden_dim, hidden_dim, output_dim)

    def forward(self, vision: Float[Tensor, "b v"], text: Float[Tensor, "b t"]) -> Float[Tensor, "b o"]:
        return self.join(torch.cat([self.vision(vision), self.text(text)], dim=-1))


class Late(nn.Module):
    """Late fusion in a policy: ``LateFusion`` for any number of modalities; one token per modality comes out.

    Each token is the modality's own vector plus what the perceptron makes of all of them together: when everything
    has to pass the perceptron, training is much slower.

    The words cannot change how pixels are read, so expect a policy that listens badly: it is here to compare with.
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
        towers = {name: Tower(shape, stages, depth, readout, cells, width) for name, shape in cameras.items()}
        self.cameras = nn.ModuleDict({module_name(name): tower for name, tower in towers.items()})
        self.others = nn.ModuleDict({name: nn.Linear(shape.dim, width) for name, shape in others.items()})
        self.join = join(len(groups) * width, width, width)
        self.shape = Shape(len(groups), width, modalities=tuple(groups))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        encoded = [
            self.cameras[module_name(name)](group) if is_camera(name) else self.others[name](masked_mean(group))
            for name, group in groups.items()
        ]
        together = self.join(torch.cat(encoded, dim=-1))
        return Fused(Tokens.valid(torch.stack(encoded, dim=1) + together[:, None]))


def join(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """What comes after the modalities have met. The first ReLU belongs to each of them."""
    return nn.Sequential(nn.ReLU(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
