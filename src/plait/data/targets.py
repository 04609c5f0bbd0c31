"""A training target that needs no simulator: where the hand will be when the gripper closes next."""

import re
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plait.spec import Spec

if TYPE_CHECKING:
    from plait.data.lerobot import Dataset


def grasp_targets(dataset: "Dataset") -> tuple[Float[Tensor, "n 3"], Bool[Tensor, " n"]] | None:
    """For every frame, the hand's position at its episode's next closing of the gripper, and whether there is one.

    None where the dataset cannot tell: no action named gripper, its sign unknown, or no position in the state.
    """
    spec, state = dataset.spec, dataset.state
    gripper = _gripper(spec)
    if state is None or gripper is None or not _has_position(spec):
        return None
    command = dataset.action[:, gripper] * (1 if spec.gripper == "positive_closes" else -1)
    closing = closings(command, dataset.episode_index)
    n = len(command)
    following = torch.where(closing, torch.arange(n), n).flip(0).cummin(0).values.flip(0)
    last = torch.tensor([row.start + row.length for row in dataset.episodes])[dataset.episode_index]
    known = following < last
    position = state[following.clamp(max=n - 1), :3]
    return torch.where(known[:, None], position, 0.0), known


def closings(command: Float[Tensor, " n"], episode: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """True at each frame whose command closes the gripper after an open one; the threshold is the middle of the range.

    Commands may lie in [-1, 1], [0, 1] or any other range. An episode that begins closed has no closing there.
    """
    closed = command > (command.min() + command.max()) / 2
    before = closed.roll(1) | (episode != episode.roll(1))
    before[0] = True
    return closed & ~before


def _gripper(spec: Spec) -> int | None:
    found = [i for i, name in enumerate(spec.actions) if re.search(r"gripper", name, re.IGNORECASE)]
    return found[0] if len(found) == 1 and spec.gripper in ("positive_closes", "positive_opens") else None


def _has_position(spec: Spec) -> bool:
    """The first three entries of the state are called x, y, z (``hand_x``, ``ee.x`` and the like included)."""
    names = [re.split(r"[._ ]", name.lower())[-1] for name in spec.state[:3]]
    return names == ["x", "y", "z"]
