"""The moving average of the weights: smoother than the last step, and what is validated, saved and used."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from plait.train.sharding import own


class Ema:
    """An average copy of a model; ``Ema.model`` is in evaluation mode and takes no gradient.

    The decay grows with the step, ``min(decay, (1 + step) / (10 + step))``, so that a short run
    does not remember its random start (as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.weight = torch.zeros((), device=next(model.parameters()).device)  # of the new value in the next update

    def prepare(self, step: int) -> None:
        """Set the weight of the update that comes ``step`` updates after the start."""
        self.weight.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards ``model``; buffers are copied. A GPU can replay it as part of a graph."""
        mine, new = _floats(self.model), _floats(model)
        way = torch._foreach_sub(new, mine)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(way, self.weight)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(mine, way)  # pyright: ignore[reportPrivateImportUsage]
        if buffers := list(self.model.buffers()):
            torch._foreach_copy_(buffers, list(model.buffers()))  # pyright: ignore[reportPrivateImportUsage]


def _floats(model: nn.Module) -> list[Tensor]:
    return [own(parameter.detach()) for parameter in model.parameters() if parameter.is_floating_point()]
