"""Where a policy looks: for each word, or for the instruction as a whole, a map over each camera's picture.

Where a fusion attends, they come from the weights that it used, averaged over layers and heads: how much more a patch
looks at the word than the average patch does. Where it does not, they are integrated gradients, which tell on which
patches the words' part of the action rests.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from plait.nn.sequence import GroupEmbedding
from plait.policy import Policy
from plait.spec import INSTRUCTION, group_modality, is_camera
from plait.types import Inputs, Shape, Tokens

ATTENTION, GRADIENTS = "attention", "integrated gradients"
STEPS = 8  # of the integral; 16 change no score of ``pointing`` by more than its interval
ROWS = 32  # that are computed at once: attention of every token to every token takes memory
Grids = dict[str, Float[Tensor, "b w _ _"]]  # camera modality -> a map for each word


@dataclass(frozen=True)
class Heatmaps:
    """Of b moments.

    Attributes:
        method: ``"attention"`` or ``"integrated gradients"``.
        maps: camera -> ``[b, w, rows, columns]``, over the grid of the camera's tokens, never below 0. All maps of a
            moment together sum to 1. w is the number of places for words, or 1 where they are pooled before.
        words: ``[b, w]``, False at padding, whose maps are 0.
    """

    method: str
    maps: dict[str, Float[Tensor, "b w _ _"]]
    words: Bool[Tensor, "b w"]

    def whole(self) -> dict[str, Float[Tensor, "b _ _"]]:
        """For the instruction as a whole: the sum over its words."""
        return {camera: maps.sum(dim=1) for camera, maps in self.maps.items()}


def heatmaps(policy: Policy, inputs: Inputs, attention: bool = True) -> Heatmaps:
    """Where ``policy`` looks in ``inputs``, on the processor; a memory is empty, as at the first moment of an episode.

    Args:
        attention: False takes integrated gradients of a fusion that attends, too.

    Raises:
        ValueError: the policy has no camera.
    """
    if not policy.spec.cameras:
        raise ValueError("heatmaps: this policy has no camera; there is nothing that it could look at")
    training = policy.training
    with torch.random.fork_rng():
        parts = [_part(policy.eval(), some.to(policy.device), attention) for some in inputs.split(ROWS)]
    policy.train(training)
    maps = {camera: torch.cat([part.maps[camera] for part in parts]) for camera in parts[0].maps}
    return Heatmaps(parts[0].method, maps, torch.cat([part.words for part in parts]))


def _part(policy: Policy, inputs: Inputs, attention: bool) -> Heatmaps:
    with torch.no_grad():
        groups = policy.encode(inputs)
        found = _attention(policy, policy.fusion(groups, reads=True).reads) if attention else {}
    method = ATTENTION if found else GRADIENTS
    found = found or _gradients(policy, inputs, groups)
    places, words = next(iter(found.values())).shape[1], groups[INSTRUCTION].mask
    words = words if places == words.shape[1] else torch.ones_like(words[:, :1])
    return Heatmaps(method, _normalised(_by_camera(found), words), words.cpu())


def _attention(policy: Policy, reads: dict[str, Tensor]) -> Grids:
    """From the weights in ``reads`` with which patches look at words; empty where there are none. That way words come
    to the patches, which the head acts on; how words look at patches says little of the action.

    Every fusion that attends embeds its groups in one sequence, whose layout tells which weight is whose.
    """
    by_name: dict[str, list[Tensor]] = {}
    for name, weights in reads.items():
        by_name.setdefault(name.split(".")[0], []).append(weights)
    layouts = [part.shapes for part in policy.modules() if isinstance(part, GroupEmbedding)]
    if not layouts or not by_name.keys() & {"vision_to_text", "attention", "look"}:
        return {}
    cameras = {name: shape for name, shape in layouts[0].items() if is_camera(name)}
    others = {name: shape for name, shape in layouts[0].items() if not is_camera(name)}
    if "look" in by_name:  # queries that the pooled words modulate
        looks = {name: reads[f"look.{name}"].mean(dim=(1, 2, 3))[:, None] for name in cameras}
    elif "vision_to_text" in by_name:
        weights = torch.stack(by_name["vision_to_text"]).mean(dim=(0, 2))
        looks = _columns(_columns(weights, others)[INSTRUCTION].mT, cameras)
    else:
        weights = torch.stack(by_name["attention"]).mean(dim=(0, 2))
        looks = _columns(_columns(weights, layouts[0])[INSTRUCTION].mT, layouts[0])
    even = torch.cat([looks[name] for name in cameras], dim=2).mean(dim=2, keepdim=True)
    return {
        name: (looks[name] - even).clamp(min=0).unflatten(-1, shape.grid or (1, shape.n))
        for name, shape in cameras.items()
    }


def _columns(weights: Float[Tensor, "b q n"], layout: dict[str, Shape]) -> dict[str, Float[Tensor, "b q m"]]:
    """The columns of each group; what comes after the last one belongs to none."""
    sizes = [shape.n for shape in layout.values()]
    parts = weights.split([*sizes, weights.shape[-1] - sum(sizes)], dim=-1)
    return dict(zip(layout, parts, strict=False))


def _gradients(policy: Policy, inputs: Inputs, groups: dict[str, Tokens]) -> Grids:
    """Integrated gradients (Sundararajan et al., https://arxiv.org/abs/1703.01365) along the straight way from pictures
    whose every patch is the mean patch, of how much more the head favours its chunk over the one that it predicts
    without words; what speaks for the other one is left out.
    """
    with torch.no_grad():
        told = _chunk(policy, inputs, groups)
        untold = _chunk(policy, inputs, policy.encode(_without_words(inputs)))
    cameras = {name: tokens for name, tokens in groups.items() if is_camera(name)}
    mean = {name: tokens.data.mean(dim=1, keepdim=True) for name, tokens in cameras.items()}
    total = {name: torch.zeros_like(tokens.data) for name, tokens in cameras.items()}
    for step in range(STEPS):
        share = (step + 0.5) / STEPS
        points = {n: torch.lerp(mean[n], t.data, share).requires_grad_() for n, t in cameras.items()}
        between = groups | {n: Tokens(points[n], t.mask, t.grid) for n, t in cameras.items()}
        with torch.enable_grad():
            fused = policy.remember(policy.fusion(between), inputs)
            favour = _loss(policy, fused, untold) - _loss(policy, fused, told)
            gradients = torch.autograd.grad(favour, list(points.values()), allow_unused=True)
        for name, gradient in zip(points, gradients, strict=True):
            total[name] += 0.0 if gradient is None else gradient / STEPS
    parts = {n: (total[n] * (t.data - mean[n])).sum(dim=-1).clamp(min=0) for n, t in cameras.items()}
    return {n: parts[n].unflatten(1, t.grid or (1, t.data.shape[1]))[:, None] for n, t in cameras.items()}


def _chunk(policy: Policy, inputs: Inputs, groups: dict[str, Tokens]) -> Float[Tensor, "b horizon a"]:
    torch.manual_seed(0)  # a head that draws noise draws the same for every chunk
    return policy.head.act(policy.remember(policy.fusion(groups), inputs)).float()


def _loss(policy: Policy, fused: Tokens, chunk: Float[Tensor, "b horizon a"]) -> Float[Tensor, ""]:
    """Of all rows together."""
    torch.manual_seed(0)
    return len(chunk) * policy.head.loss(fused, chunk, torch.ones_like(chunk[..., 0], dtype=torch.bool))


def _without_words(inputs: Inputs) -> Inputs:
    absent = torch.zeros_like(inputs.present[INSTRUCTION])
    return replace(inputs, present=inputs.present | {INSTRUCTION: absent})


def _by_camera(grids: Grids) -> Grids:
    """Of a camera with grids of several resolutions, their sum on the finest one."""
    found: Grids = {}
    for group, maps in sorted(grids.items(), key=lambda item: -prod(item[1].shape[2:])):
        camera = group_modality(group)
        finest = found.get(camera)
        if finest is not None:
            spread = prod(maps.shape[2:]) / prod(finest.shape[2:])
            maps = finest + spread * interpolate(maps, size=finest.shape[2:], mode="nearest")
        found[camera] = maps
    return found


def _normalised(grids: Grids, words: Bool[Tensor, "b w"]) -> dict[str, Float[Tensor, "b w _ _"]]:
    """Camera -> maps of the words, all of which sum to 1; even ones where nothing is looked at more than all else."""
    valid = words[..., None, None]
    total = torch.stack([(maps * valid).sum(dim=(1, 2, 3)) for maps in grids.values()]).sum(dim=0)
    total, cells = total[:, None, None, None], sum(prod(maps.shape[2:]) for maps in grids.values())
    even = valid / (cells * words.sum(dim=1)[:, None, None, None])
    return {n.partition(".")[2]: (torch.where(total > 0, m / total, even) * valid).cpu() for n, m in grids.items()}
