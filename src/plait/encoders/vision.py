"""Vision encoders: uint8 images in, a grid of tokens out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from plait.config import unknown
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class PatchConfig:
    """A shallow encoder trained from scratch: one strided convolution, so that words meet pixels early.

    Attributes:
        patch: side of the convolution's window, in pixels.
        stride: pixels from one window to the next (smaller than patch: windows overlap).
        width: channels of each token.
    """

    patch: int = 8
    stride: int = 4
    width: int = 48

    def build(self, size: tuple[int, int], pretrained: bool = True) -> "PatchEncoder":
        return PatchEncoder(size, self.patch, self.stride, self.width)


@dataclass(frozen=True)
class TimmConfig:
    """Any image backbone of timm; its last feature map (or its patch tokens) becomes the grid.

    Attributes:
        name: a timm model, for example resnet18 or vit_small_patch16_224.
        weights: empty trains from scratch, hub downloads timm's weights, anything else is the path
            of a .safetensors file.
        frozen: keep the backbone, batch-norm statistics included, exactly as loaded.
    """

    name: str = "resnet18"
    weights: str = ""
    frozen: bool = False

    def build(self, size: tuple[int, int], pretrained: bool = True) -> "TimmEncoder":
        return TimmEncoder(size, self.name, self.weights if pretrained else "", self.frozen)


Vision = PatchConfig | TimmConfig


class PixelNormaliser(nn.Module):
    """uint8 ``[b h w 3]`` -> float ``[b 3 h w]``, standardised per channel. The layout stays channels-last."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.25, 0.25, 0.25)):
        super().__init__()
        centre, spread = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * spread))
        self.register_buffer("offset", -centre / spread)

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
        return torch.addcmul(self.offset, images.permute(0, 3, 1, 2).float(), self.scale)


class PatchEncoder(nn.Module):
    """Overlapping patches through one convolution and batch norm; no activation, the fusion's FiLM comes first."""

    def __init__(self, size: tuple[int, int], patch: int = 8, stride: int = 4, width: int = 48):
        super().__init__()
        self.normalise = PixelNormaliser()
        padding = (patch - stride + 1) // 2
        self.convolution = nn.Conv2d(3, width, patch, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(width)
        rows, columns = ((side + 2 * padding - patch) // stride + 1 for side in size)
        self.shape = Shape(rows * columns, width, (rows, columns))

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> Tokens:
        return grid_tokens(self.norm(self.convolution(self.normalise(images))))


class TimmEncoder(nn.Module):
    """A timm backbone. Frozen means frozen: no gradient, and evaluation mode even while the policy trains."""

    def __init__(self, size: tuple[int, int], name: str, weights: str = "", frozen: bool = False):
        super().__init__()
        self.frozen = frozen
        self.backbone = _create(name, size, weights)
        pixels: Any = self.backbone.pretrained_cfg
        self.normalise = PixelNormaliser(pixels["mean"], pixels["std"])
        if frozen:
            self.backbone.requires_grad_(False)
        with torch.no_grad():
            probe = self.eval().forward(torch.zeros(1, *size, 3, dtype=torch.uint8))
        self.train()
        self.shape = Shape(probe.data.shape[1], probe.data.shape[2], probe.grid)

    def train(self, mode: bool = True) -> "TimmEncoder":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> Tokens:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return grid_tokens(self.backbone(self.normalise(images))[-1])


def grid_tokens(features: Float[Tensor, "b d rows columns"]) -> Tokens:
    """A feature map as valid tokens, row by row."""
    tokens = rearrange(features, "b d rows columns -> b (rows columns) d")
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return Tokens(tokens, mask, (features.shape[2], features.shape[3]))


def _create(name: str, size: tuple[int, int], weights: str) -> nn.Module:
    if not timm.is_model(name):
        raise ValueError(f"vision: {unknown('timm model', name, timm.list_models())}"[:600])
    options: dict[str, Any] = {"features_only": True, "out_indices": (-1,), "pretrained": bool(weights)}
    if weights and weights != "hub":
        _check_weights(name, weights)
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        try:
            return timm.create_model(name, img_size=size, **options)  # vision transformers want the size
        except TypeError:
            return timm.create_model(name, **options)
    except OSError as error:
        raise ValueError(
            f"vision: the hub gave no weights for {name!r} ({error}); give the path of a .safetensors file, or ''"
        ) from error


def _check_weights(name: str, path: str) -> None:
    """timm loads what fits and passes over the rest, so a file of another model would go unnoticed."""
    if not Path(path).is_file():
        raise ValueError(f"vision: weights {path!r} is not a file; give a .safetensors path, 'hub' or ''")
    try:
        with safe_open(path, "pt") as file:
            missing = timm.create_model(name, num_classes=0).state_dict().keys() - set(file.keys())
    except SafetensorError as error:
        raise ValueError(f"vision: weights {path!r} is not a .safetensors file ({error})") from error
    if missing:
        raise ValueError(
            f"vision: weights {path!r} do not fit {name!r}: {len(missing)} tensors are missing, "
            f"for example {min(missing)!r}"
        )
