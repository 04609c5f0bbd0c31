"""Cross-attention fusion: image patches attend to words, and words attend to image patches."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.nn.pooling import masked_mean
from plait.nn.positions import grid_positions
from plait.nn.readout import ReadoutName, readout
from plait.spec import INSTRUCTION, STATE, is_camera, module_name
from plait.types import Fused, Shape, Tokens


@dataclass(frozen=True)
class CrossAttentionConfig:
    """Bidirectional cross-attention over real patch tokens, stackable.

    Attributes:
        dim: width of every token inside.
        heads: attention heads; must divide dim.
        layers: how many times the two sides read each other.
        readout: how a camera's grid becomes one token afterwards.
        width: of each fused token.
    """

    dim: int = 128
    heads: int = 4
    layers: int = 2
    readout: ReadoutName = "flatten"
    width: int = 256

    def build(self, groups: dict[str, Shape]) -> "CrossAttention":
        return CrossAttention(groups, self.dim, self.heads, self.layers, self.readout, self.width)


class CrossModalAttention(nn.Module):
    """Vision attends to text and text to vision; residual and LayerNorm after each (post-norm).

    Both directions read the inputs, not each other's output.

    >>> vision, text = torch.randn(2, 196, 768), torch.randn(2, 20, 768)
    >>> v, t = CrossModalAttention(d_model=768, n_heads=8)(vision, text)
    >>> v.shape, t.shape
    (torch.Size([2, 196, 768]), torch.Size([2, 20, 768]))
    """

    def __init__(self, d_model: int = 768, n_heads: int = 8):
        super().__init__()
        self.vision_to_text = Attention(d_model, n_heads)
        self.text_to_vision = Attention(d_model, n_heads)
        self.vision_norm, self.text_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(
        self,
        vision: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        vision_mask: Bool[Tensor, "b n"] | None = None,
        text_mask: Bool[Tensor, "b m"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Masks: True = valid; omitted = everything is."""
        vision_mask, text_mask = _mask(vision, vision_mask), _mask(text, text_mask)
        new_vision = self.vision_norm(vision + self.vision_to_text(vision, text, text_mask))
        new_text = self.text_norm(text + self.text_to_vision(text, vision, vision_mask))
        return new_vision, new_text

    def weights(
        self,
        vision: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        vision_mask: Bool[Tensor, "b n"] | None = None,
        text_mask: Bool[Tensor, "b m"] | None = None,
    ) -> dict[str, Tensor]:
        """The weights that ``forward`` uses: ``vision_to_text [b h n m]`` and ``text_to_vision [b h m n]``."""
        vision_mask, text_mask = _mask(vision, vision_mask), _mask(text, text_mask)
        return {
            "vision_to_text": self.vision_to_text.weights(vision, text, text_mask),
            "text_to_vision": self.text_to_vision.weights(text, vision, vision_mask),
        }


class CrossAttention(nn.Module):
    """All cameras' patches on one side, words and state on the other; ViLBERT's co-attention
    (https://arxiv.org/abs/1908.02265) between them. One token per modality comes out.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        dim: int = 128,
        heads: int = 4,
        layers: int = 2,
        readout_name: ReadoutName = "flatten",
        width: int = 256,
    ):
        super().__init__()
        if not any(map(is_camera, groups)):
            raise ValueError(f"cross_attention: no camera among {sorted(groups)}; use another fusion, or add a camera")
        self.project = nn.ModuleDict({module_name(name): nn.Linear(shape.dim, dim) for name, shape in groups.items()})
        self.kind = nn.ParameterDict({module_name(name): 0.02 * torch.randn(dim) for name in groups})
        self.layers = nn.ModuleList(CrossModalAttention(dim, heads) for _ in range(layers))
        grids = {name: shape.grid for name, shape in groups.items() if is_camera(name) and shape.grid}
        for name, grid in grids.items():
            self.register_buffer(f"positions_{module_name(name)}", grid_positions(grid, dim), persistent=False)
        self.readouts = nn.ModuleDict(
            {module_name(name): readout(readout_name, dim, grid, width) for name, grid in grids.items()}
        )
        self.others = nn.ModuleDict({name: nn.Linear(dim, width) for name in groups if not is_camera(name)})
        self.shape = Shape(len(groups), width)

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        groups = {name: self._embed(name, tokens) for name, tokens in groups.items()}
        vision, vision_mask = _join(groups, [name for name in groups if is_camera(name)])
        text, text_mask = _join(groups, [name for name in (INSTRUCTION, STATE) if name in groups])
        read: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, CrossModalAttention)
            if reads:
                weights = layer.weights(vision, text, vision_mask, text_mask)
                read |= {f"{name}.{index}": value for name, value in weights.items()}
            vision, text = layer(vision, text, vision_mask, text_mask)
        return Fused(self._read_out(groups, vision, text), reads=read)

    def _embed(self, name: str, tokens: Tokens) -> Tokens:
        data = self.project[module_name(name)](tokens.cleaned()) + self.kind[module_name(name)]
        if is_camera(name):
            data = data + getattr(self, f"positions_{module_name(name)}")
        return Tokens(data, tokens.mask, tokens.grid)

    def _read_out(self, groups: dict[str, Tokens], vision: Tensor, text: Tensor) -> Tokens:
        """Cut both sequences back into their modalities and turn each into one token."""
        cameras = [name for name in groups if is_camera(name)]
        sides = [name for name in (INSTRUCTION, STATE) if name in groups]
        parts = dict(zip(cameras, vision.split([groups[n].data.shape[1] for n in cameras], dim=1), strict=True))
        parts |= dict(zip(sides, text.split([groups[n].data.shape[1] for n in sides], dim=1), strict=True))
        fused = []
        for name, group in groups.items():
            tokens = Tokens(parts[name], group.mask, group.grid)
            if is_camera(name):
                fused.append(self.readouts[module_name(name)](tokens.as_map()))
            else:
                fused.append(self.others[name](masked_mean(tokens)))
        data = torch.stack(fused, dim=1)
        return Tokens(data, torch.ones(data.shape[:2], dtype=torch.bool, device=data.device))


def _join(groups: dict[str, Tokens], names: list[str]) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
    return torch.cat([groups[n].data for n in names], dim=1), torch.cat([groups[n].mask for n in names], dim=1)


def _mask(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Bool[Tensor, "b n"]:
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask
