"""Model FLOPs utilisation (MFU): the share of a GPU's peak that the model's own arithmetic reaches.

As in PaLM (https://arxiv.org/abs/2204.02311, appendix B): forward and backward pass, nothing that is computed twice.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from plait.nn.flops import flops

PEAKS = {  # FLOP/s, dense, bfloat16 with sums in float32, by what the card's name contains; from NVIDIA's data sheets
    "B200": 2250e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}
ROWS = 16  # samples that the count is made with


def peak(device: torch.device) -> float | None:
    """FLOP/s in dense bfloat16, or None where they are not known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((value for part, value in PEAKS.items() if part in name), None)


def sample_flops(model: nn.Module, batch: Any, autocast: torch.autocast) -> float:
    """What the forward and the backward pass of one of the batch's samples compute; the model stays as it is.

    The optimiser is not counted.
    """
    rows = min(len(batch), ROWS)
    few = pytree.tree_map(_first(rows, len(batch)), batch)
    loss: Any = deepcopy(model).loss

    def call() -> None:
        with autocast:
            value = loss(few)["loss"]
        value.backward()

    return flops(call) / rows


def _first(rows: int, of: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Cuts a tensor of so many samples, or moments of each; what has no row for each sample stays whole."""

    def cut(value: torch.Tensor) -> torch.Tensor:
        has_rows = value.ndim > 0 and len(value) % of == 0
        return value[: len(value) // of * rows] if has_rows else value

    return cut
