"""The moving average of the weights: smoother than the last step, and what is validated, saved and used."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class Ema:
    """An average copy of a model; ``Ema.model`` is in evaluation mode and takes no gradient.

    The decay grows with the step, ``min(decay, (1 + step) / (10 + step))``, so that a short run
    does not remember its random start (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards ``model``, ``step`` updates after the start; buffers are copied."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(_floats(self.model), _floats(model), weight)  # pyright: ignore[reportPrivateImportUsage]
        if buffers := list(self.model.buffers()):
            torch._foreach_copy_(buffers, list(model.buffers()))  # pyright: ignore[reportPrivateImportUsage]


def _floats(model: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in model.parameters() if parameter.is_floating_point()]
