"""A training target that needs no simulator: where the hand will be at the episode's next keyframes."""

import re
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plait.spec import Spec

if TYPE_CHECKING:
    from plait.data.lerobot import Dataset


KEYFRAMES = 2  # of the following ones: where to grasp, and where to let go


def keyframe_targets(dataset: "Dataset") -> tuple[Float[Tensor, "n k 3"], Bool[Tensor, "n k"]] | None:
    """For every frame, the hand's position at the next ``k`` changes of the gripper, and whether so many follow.

    Where an episode has none at all (a push), its end takes that place.
    None where the dataset cannot tell: not exactly one action named gripper, or no x, y, z in the state.
    """
    gripper, hand = _gripper(dataset.spec), dataset.spec.position
    if dataset.state is None or gripper is None or hand is None:
        return None
    key = changes(dataset.action[:, gripper], dataset.episode_index)
    ends = torch.tensor([row.start + row.length - 1 for row in dataset.episodes])
    without = torch.tensor([not key[row.start : row.start + row.length].any() for row in dataset.episodes])
    key[ends[without]] = True
    frame = _following(key)
    known = frame <= ends[dataset.episode_index][:, None]
    position = dataset.state[frame.clamp(max=len(key) - 1)][..., list(hand)]
    return torch.where(known[..., None], position, 0.0), known


def _following(key: Bool[Tensor, " n"]) -> Int[Tensor, "n k"]:
    """For every frame, the first ``k`` frames from it on that are True; n where there is none."""
    n = len(key)
    after = torch.cat([torch.where(key, torch.arange(n), n), torch.tensor([n, n])]).flip(0).cummin(0).values.flip(0)
    frames = [after[:n]]
    while len(frames) < KEYFRAMES:
        frames.append(after[frames[-1] + 1])
    return torch.stack(frames, dim=1)


def changes(command: Float[Tensor, " n"], episode: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """True at each frame whose command opens or closes the gripper; the threshold is the middle of the range.

    Commands may lie in [-1, 1], [0, 1] or any other range. How an episode begins is no change.
    """
    closed = command > (command.min() + command.max()) / 2
    same_episode = episode == episode.roll(1)
    same_episode[0] = False
    return (closed != closed.roll(1)) & same_episode


def _gripper(spec: Spec) -> int | None:
    found = [i for i, name in enumerate(spec.actions) if re.search(r"gripper", name, re.IGNORECASE)]
    return found[0] if len(found) == 1 else None
