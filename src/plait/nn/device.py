"""Where a model runs, and in which number format: decided by what the machine really has."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

Precision = Literal["float32", "bfloat16"]


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the GPU when there is one.

    Raises:
        ValueError: a name that torch does not know, or a GPU that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r}; say auto, cpu, cuda, cuda:1, ...") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {name!r} cannot be used here ({reason}); leave it at 'auto' or say 'cpu'.") from error
    return device


def hardware(name: str = "auto") -> str:
    """What the device called ``name`` is, for people: ``"2 x NVIDIA H100"`` (all GPUs, for "auto") or ``"CPU"``."""
    device = pick_device(name)
    if device.type != "cuda":
        return device.type.upper()
    count = torch.cuda.device_count() if name in ("auto", "cuda") else 1
    return f"{count} x {torch.cuda.get_device_name(device)}"


def current(device: torch.device) -> AbstractContextManager[object]:
    """Within this, streams, events and graphs are made on ``device``, should it be another than the first GPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def pick_autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass in ``precision``; ``auto`` is bfloat16 only where it is computed in hardware."""
    bfloat16 = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def convert_weights(module: nn.Module, number_format: torch.dtype) -> None:
    """Keep the weights of linear layers and convolutions as autocast would convert them at every call: what is computed
    under autocast stays the same, bit for bit. All else, norms and what actions are scaled with, stays as precise as it
    is. A module that was converted can no longer be trained well, nor be used without autocast.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.to(number_format)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 itself (an emulated format is slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))
