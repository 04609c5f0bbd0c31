"""Image backbones of timm, pretrained or not, as vision encoders."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from plait.encoders.hub import reach_hub
from plait.encoders.pixels import PixelNormaliser, grid_tokens
from plait.types import Shape, Tokens

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm names them on the hub


@dataclass(frozen=True)
class TimmConfig:
    """Any image backbone of timm; its feature maps (or its patch tokens) become grids.

    Attributes:
        name: a timm model, for example resnet18 or vit_small_patch16_224.
        weights: empty trains from scratch, hub downloads timm's weights, anything else is the path
            of a .safetensors file.
        frozen: keep the backbone, batch-norm statistics included, exactly as loaded.
        scales: which feature maps, counted from the last (-1). The first one named is the camera's own grid;
            further ones become groups of their own, for a fusion that looks at several resolutions.
    """

    name: str = "resnet18"
    weights: str = ""
    frozen: bool = False
    scales: tuple[int, ...] = (-1,)

    def build(self, size: tuple[int, int], pretrained: bool = True) -> "TimmEncoder":
        return TimmEncoder(size, self.name, self.weights if pretrained else "", self.frozen, self.scales)


class TimmEncoder(nn.Module):
    """A timm backbone. Frozen means frozen: no gradient, and evaluation mode even while the policy trains."""

    def __init__(
        self,
        size: tuple[int, int],
        name: str,
        weights: str = "",
        frozen: bool = False,
        scales: tuple[int, ...] = (-1,),
    ):
        super().__init__()
        if not scales or max(scales) >= 0 or len(set(scales)) < len(scales):
            raise ValueError(f"vision: scales = {scales}: name feature maps from the last, each once, such as (-1, -2)")
        self.frozen, self.scales = frozen, scales
        self.backbone: Any = _create(name, size, weights, tuple(sorted(scales)))
        self.channels_last = str(getattr(self.backbone, "output_fmt", "")) == "Format.NHWC"
        self.normalise = PixelNormaliser(self.backbone.pretrained_cfg["mean"], self.backbone.pretrained_cfg["std"])
        if frozen:
            self.backbone.requires_grad_(False)
        try:
            with torch.no_grad():
                probe = self.eval().forward(torch.zeros(1, *size, 3, dtype=torch.uint8))
        except (AssertionError, RuntimeError) as error:
            step, own = max(self.backbone.feature_info.reduction()), self.backbone.pretrained_cfg["input_size"][-1]
            raise ValueError(
                f"vision: image_size {size[0]} x {size[1]} does not fit {name!r}: {str(error).rstrip('.')}; "
                f"choose a multiple of {step}, such as {own}"
            ) from error
        self.train()
        self.shapes = tuple(Shape(tokens.data.shape[1], tokens.data.shape[2], tokens.grid) for tokens in probe)

    def train(self, mode: bool = True) -> "TimmEncoder":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> tuple[Tokens, ...]:
        return self.encode(self.normalise(images))

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tokens, ...]:
        """The grids of pixels that are standardised already."""
        if not pixels.is_floating_point():
            raise ValueError(f"image of {pixels.dtype}: give floats, standardised per channel as the backbone expects")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.backbone(pixels)  # in the order of the network, whatever was asked for
        if self.channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        by_scale = dict(zip(sorted(self.scales), maps, strict=True))
        return tuple(grid_tokens(by_scale[scale]) for scale in self.scales)


def _create(name: str, size: tuple[int, int], weights: str, scales: tuple[int, ...]) -> nn.Module:
    import timm  # only where it is used: it takes a second to load

    if not timm.is_model(name):
        near = get_close_matches(name.lower(), timm.list_models(), n=5)
        among = f", among them {near}" if near else ""
        raise ValueError(f"vision: no timm model {name!r}; timm.list_models() tells all names{among}")
    options: dict[str, Any] = {"features_only": True, "out_indices": scales, "pretrained": bool(weights)}
    if weights and weights != "hub":
        _check_weights(weights, timm.create_model(name, num_classes=0), name)
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        if weights == "hub":
            _find_on_hub(timm.get_pretrained_cfg(name))
        try:
            return timm.create_model(name, img_size=size, **options)  # vision transformers want the size
        except TypeError:
            return timm.create_model(name, **options)
    except (IndexError, AssertionError) as error:
        raise ValueError(f"vision: scales = {scales}: {name!r} has fewer feature maps; -1 is its last") from error
    except OSError as error:
        raise ValueError(
            f"vision: the hub gave no weights for {name!r} ({error}); give the path of a .safetensors file, or ''"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"vision: cannot load {weights!r} for {name!r}: {' '.join(str(error).split())[:300]}"
        ) from error


def _find_on_hub(described: Any) -> None:
    """Raise an OSError when the weights are neither on this machine nor to be had."""
    from huggingface_hub import try_to_load_from_cache

    hub_id = described.hf_hub_id if described else None
    if hub_id and not any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in WEIGHT_FILES):
        reach_hub(hub_id)


def _check_weights(path: str, model: nn.Module, name: str) -> None:
    """timm loads what fits and passes over the rest, so a file of another model would go unnoticed."""
    if not Path(path).is_file():
        raise ValueError(f"vision: weights {path!r} is not a file; give a .safetensors path, 'hub' or ''")
    try:
        with safe_open(path, "pt") as file:
            missing = model.state_dict().keys() - set(file.keys())
    except SafetensorError as error:
        raise ValueError(f"vision: weights {path!r} is not a .safetensors file ({error})") from error
    if missing:
        raise ValueError(
            f"vision: weights {path!r} do not fit {name!r}: {len(missing)} tensors are missing, "
            f"for example {min(missing)!r}"
        )
