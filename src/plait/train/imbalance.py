"""Imbalance of the modalities, measured while training: what is learned from, and what the prediction depends on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plait.data.world import ALONE, World
from plait.policy import Policy
from plait.spec import INSTRUCTION, STATE, camera_modality, group_modality
from plait.train.config import TrainConfig
from plait.train.distributed import total
from plait.train.modulation import balanced
from plait.types import Batch, Inputs, Tokens

if TYPE_CHECKING:
    from plait.train.state import TrainState

GRADIENT, PREDICTION, PACE = "imbalance/gradient/", "imbalance/prediction/", "imbalance/pace/"
FLOOR = 0.01  # of the loss: a smaller rise tells nothing, and must not make a ratio large


def watch(
    state: "TrainState", batch: Any, config: TrainConfig, autocast: torch.autocast, world: World = ALONE
) -> Iterator[tuple[str, float]]:
    """Measure on the batch of the last step; with modulation, also decide what is held back until the next time.

    Several processes measure on their parts of the batch and go by the mean.

    Raises:
        ValueError: the model is no policy of several modalities.
    """
    own = dict(measure(balanced(state.model), batch, autocast))
    measured = {name: share / world.size for name, share in zip(own, total(list(own.values()), world), strict=True)}
    yield from measured.items()
    if config.modulation.strength:
        shares = {name.removeprefix(PREDICTION): share for name, share in measured.items() if PREDICTION in name}
        over = state.step >= config.modulation.until * config.steps
        state.paces = {} if over else config.modulation.paces(shares)
        yield from ((PACE + name, state.paces.get(name, 1.0)) for name in shares)


def measure(policy: Policy, batch: Batch, autocast: torch.autocast) -> Iterator[tuple[str, float]]:
    """Each modality's share in the gradient and in the prediction; the shares of either kind sum to 1.

    In the gradient: the norm of the loss's gradient at the tokens that the modality's encoder returns.
    In the prediction: how much the loss rises when every row gets the modality of another row, which says nothing about
    it but is as usual as any. (An absent token, unless it is trained, is unusual: the loss rises even when what it
    stands for was never looked at.) As long as no modality matters, all have the same share.

    Nothing is changed: dropout is off, batch norm uses its averages, no parameter collects a gradient.
    """
    with _at_rest(policy):
        yield from _shares(GRADIENT, _gradients(policy, batch, autocast))
        yield from _shares(PREDICTION, _rises(policy, batch, autocast))


def _gradients(policy: Policy, batch: Batch, autocast: torch.autocast) -> dict[str, Tensor]:
    """The norm of the gradient at each modality's tokens; those of a camera's several scales together."""
    groups: dict[str, Tokens] = {}
    handle = policy.encoder.register_forward_hook(lambda module, inputs, output: groups.update(output))
    with autocast, torch.backends.cudnn.flags(enabled=False):  # its recurrent layers have no gradient at rest
        loss = _loss(policy, batch)
        gradients = torch.autograd.grad(loss, [group.data for group in groups.values()], materialize_grads=True)
    handle.remove()
    norms: dict[str, list[Tensor]] = {}
    for name, gradient in zip(groups, gradients, strict=True):
        norms.setdefault(group_modality(name), []).append(gradient.float().norm())
    return {name: torch.stack(scales).norm() for name, scales in norms.items()}


@torch.no_grad()
def _rises(policy: Policy, batch: Batch, autocast: torch.autocast) -> dict[str, Tensor]:
    """How much the loss rises when a modality is another row's, and ``FLOOR``."""
    rows = len(batch.inputs.state) // len(batch) * (len(batch) // 2)  # a window's moments stay together
    with autocast:
        whole = _loss(policy, batch)
        losses = {
            name: _loss(policy, replace(batch, inputs=exchanged(batch.inputs, name, rows)))
            for name in policy.spec.modalities
        }
    return {name: (loss - whole).clamp(min=0) + FLOOR * whole.abs() for name, loss in losses.items()}


def exchanged(inputs: Inputs, modality: str, rows: int) -> Inputs:
    """Every row with the ``modality`` of the one that stands ``rows`` before it, in a circle."""

    def other(value: Tensor, whose: str) -> Tensor:
        return value.roll(rows, dims=0) if whose == modality else value

    return Inputs(
        {camera: other(image, camera_modality(camera)) for camera, image in inputs.images.items()},
        other(inputs.state, STATE),
        other(inputs.words, INSTRUCTION),
        other(inputs.word_mask, INSTRUCTION),
        {name: other(flags, name) for name, flags in inputs.present.items()},
        inputs.window,
    )


def _loss(policy: Policy, batch: Batch) -> Tensor:
    torch.manual_seed(0)  # a loss that draws noise draws the same each time; the next step seeds anew
    return policy.loss(batch)["loss"].float()


def _shares(prefix: str, amounts: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    values = torch.stack(list(amounts.values())).clamp(min=1e-12)
    yield from zip((prefix + name for name in amounts), (values / values.sum()).tolist(), strict=True)


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    yield
    model.train(was_training)
