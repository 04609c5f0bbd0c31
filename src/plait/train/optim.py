"""AdamW with decay where it belongs, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim import AdamW

from plait.train.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW over the parameters that are trained (frozen ones are left out).

    Raises:
        ValueError: the model has no parameter to train.
    """
    decayed, free = [], []
    for parameter, decays in _trained(model):
        (decayed if decays else free).append(parameter)
    if not decayed and not free:
        raise ValueError(f"{type(model).__name__} has no parameter that requires a gradient; nothing can be trained.")
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    parameters = (*decayed, *free)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    graph = config.cuda_graph and parameters[0].is_cuda
    rate = torch.tensor(config.learning_rate, device=parameters[0].device) if graph else config.learning_rate
    return AdamW([group for group in groups if group["params"]], lr=rate, fused=fused, capturable=graph)


def _trained(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Each trained parameter once, and whether it decays: matrices named weight, but no embedding."""
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                is_matrix = "weight" in name and parameter.ndim >= 2
                yield parameter, is_matrix and not isinstance(module, nn.Embedding)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to ``config.learning_rate``, then a cosine that reaches zero after the last step."""
    warmup = min(config.warmup_steps, config.steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / (config.steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: AdamW, value: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # a recorded update reads it from its memory
            group["lr"].fill_(value)
        else:
            group["lr"] = value
