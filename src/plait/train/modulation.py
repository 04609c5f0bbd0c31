"""Gradient modulation: hold back a modality that crowds out the others, as long as the measurements say so."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import tanh

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from plait.config import refuse_outside
from plait.policy import Policy
from plait.spec import INSTRUCTION, camera_name, is_camera, module_name


@dataclass(frozen=True)
class Modulation:
    """Hold back a modality on which the prediction depends far more than on the others, so that these are learned too.

    OGM-GE (Peng et al., 2022, https://arxiv.org/abs/2203.15332), who scale gradients. AdamW divides such a factor out
    again, so here it is on the learning rate of what belongs to the modality alone: its encoder, and its own layers of
    the fusion.

    Attributes:
        strength: alpha of the paper, 0.1 to 1; the factor is 1 - tanh(strength * ratio). 0 holds nothing back.
        threshold: ratio of the largest share in the prediction to the next one, above which there is an imbalance.
        until: share of the steps after which nothing is held back any more.
        noise: add noise as large as the gradient to what is held back (the paper's GE).
    """

    strength: float = 0.0
    threshold: float = 3.0
    until: float = 0.5
    noise: bool = False

    def __post_init__(self) -> None:
        refuse_outside(self, "train.modulation", threshold="[1, inf)", until="[0, 1]")

    def paces(self, shares: Mapping[str, float]) -> dict[str, float]:
        """The factor on the learning rate of the dominant modality, by its name; {} when none is dominant.

        Args:
            shares: of two modalities or more, in the prediction; above 0.
        """
        next_one, most = sorted(shares.values())[-2:]
        ratio = most / next_one
        dominant = max(shares, key=lambda name: shares[name])
        return {dominant: 1 - tanh(self.strength * ratio)} if ratio > self.threshold else {}


def divide(optimizer: Optimizer, model: nn.Module, noise: bool = False) -> None:
    """Give the parameters that belong to one modality alone groups of their own, which ``hold_back`` can slow down.

    Raises:
        ValueError: the model is no policy of several modalities.
    """
    owner = owners(balanced(model))
    groups, optimizer.param_groups = optimizer.param_groups, []
    for group in groups:
        parts: dict[str, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(owner.get(parameter, ""), []).append(parameter)
        for name, parameters in parts.items():
            rate = group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
            gate = torch.zeros((), device=parameters[0].device) if noise and name else None
            own = {"params": parameters, "lr": rate, "modality": name, "noise": gate}
            optimizer.add_param_group(group | own)


def hold_back(optimizer: Optimizer, paces: Mapping[str, float]) -> None:
    """Multiply the learning rates of this step by ``paces``. A recorded update reads them in their memory."""
    for group in optimizer.param_groups:
        name = group.get("modality", "")
        if name in paces:
            group["lr"] *= paces[name]
        if group.get("noise") is not None:
            group["noise"].fill_(name in paces)


@torch.no_grad()
def add_noise(optimizer: Optimizer) -> None:
    """Noise as large as each gradient on what is held back, where it was asked for. A GPU can replay it in a graph."""
    for group in optimizer.param_groups:
        if group.get("noise") is not None:
            for gradient in [parameter.grad for parameter in group["params"] if parameter.grad is not None]:
                gradient.add_(torch.randn_like(gradient) * gradient.std(correction=0) * group["noise"])


def owners(policy: Policy) -> dict[nn.Parameter, str]:
    """The modality of each parameter that belongs to one alone: of its encoder, or of its own layers in the fusion."""
    places = {name: (_encoder(name), module_name(name)) for name in policy.spec.modalities}
    return {
        parameter: modality
        for name, parameter in policy.named_parameters()
        for modality, (encoder, layers) in places.items()
        if name.startswith(encoder) or (name.startswith("fusion.") and layers in name.split("."))
    }


def _encoder(modality: str) -> str:
    """How the names of its encoder's parameters begin."""
    if is_camera(modality):
        return f"encoder.cameras.{camera_name(modality)}."
    return "encoder.language." if modality == INSTRUCTION else f"encoder.{modality}."


def balanced(model: nn.Module) -> Policy:
    """The model, if it is one whose modalities can be out of balance.

    Raises:
        ValueError: it is no policy, or has one modality.
    """
    if not isinstance(model, Policy) or len(model.spec.modalities) < 2:
        found = f"{type(model).__name__} is no policy with two modalities or more, so there is no balance to measure"
        raise ValueError(f"train.imbalance_every: {found}; set it to 0.")
    return model
