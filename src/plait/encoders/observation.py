"""All encoders of a policy together: inputs in, groups of tokens out, by modality."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from plait.spec import INSTRUCTION, STATE, camera_modality, group_modality, level_group, module_name
from plait.types import Inputs, Shape, Tokens


class ObservationEncoder(nn.Module):
    """Encodes every modality on its own and replaces what is absent by a learned token.

    Args:
        cameras: camera -> vision encoder, a module that declares its grids in ``shapes``.
        language: encoder of the instruction, a module that declares its output in ``shape``.
        state: encoder of the robot's state, likewise; None when the embodiment has none.
    """

    def __init__(self, cameras: dict[str, Any], language: Any, state: Any | None):
        super().__init__()
        self.cameras, self.language, self.state = nn.ModuleDict(cameras), language, state
        shapes = {
            level_group(camera_modality(name), level): shape
            for name, encoder in cameras.items()
            for level, shape in enumerate(encoder.shapes)
        }
        if state is not None:
            shapes[STATE] = state.shape
        self.shapes: dict[str, Shape] = shapes | {INSTRUCTION: language.shape}
        self.absent = nn.ParameterDict(
            {module_name(name): 0.02 * torch.randn(shape.dim) for name, shape in self.shapes.items()}
        )

    def forward(self, inputs: Inputs) -> dict[str, Tokens]:
        groups = {
            level_group(camera_modality(name), level): tokens
            for name, encode in self.cameras.items()
            for level, tokens in enumerate(encode(inputs.images[name]))
        }
        if self.state is not None:
            present = inputs.present[STATE][:, None]  # cleaned before use: a NaN here would reach the weights' gradient
            groups[STATE] = self.state(torch.where(present, inputs.state, 0.0))
        told, mask = inputs.told, inputs.word_mask
        groups[INSTRUCTION] = self.language(inputs.words, mask) if told is None else Tokens(told, mask)
        return {
            name: _replace_absent(tokens, inputs.present[group_modality(name)], self.absent[module_name(name)])
            for name, tokens in groups.items()
        }


def _replace_absent(tokens: Tokens, present: Bool[Tensor, " b"], absent: Tensor) -> Tokens:
    """Where a modality is absent, its learned token stands at position 0 and every other position is masked."""
    here = present[:, None]
    first = torch.arange(tokens.mask.shape[1], device=present.device) == 0
    mask = torch.where(here, tokens.mask, first)
    placeholder = first[:, None] * absent.to(tokens.data.dtype)
    return Tokens(torch.where(here[..., None], tokens.data, placeholder), mask, tokens.grid)
