"""What a fusion gives to be read is what it really used: the kernel's own inputs say which weights those were."""

from typing import Any

import pytest
import torch
from torch import Tensor

from plait.fusion import (
    AdaptiveConfig,
    BottleneckConfig,
    CrossAttentionConfig,
    ExpertsConfig,
    HierarchicalConfig,
    UnifiedConfig,
)
from plait.nn.attention import Attention, Read
from plait.nn.experts import ExpertMlps
from plait.nn.sequence import join, split
from plait.types import Tokens
from policies import random_observation, small_policy

FUSIONS = [
    CrossAttentionConfig(layers=2),
    UnifiedConfig(layers=3),
    UnifiedConfig(layers=2, actions=8),
    ExpertsConfig(layers=2),
    HierarchicalConfig(),
    BottleneckConfig(looks=2),
]
ATTENTION = ("vision_to_text.", "text_to_vision.", "attention.", "look.")


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_attention_weights_are_those_of_the_forward_pass(fusion: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Tensor] = []

    def kernel(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = (scores if attn_mask is None else scores.masked_fill(~attn_mask, float("-inf"))).softmax(-1)
        used.append(weights)
        return weights @ value

    policy = small_policy(fusion=fusion)
    inputs = policy.prepare(random_observation())
    plain = policy.fuse(inputs).tokens.data
    mix = Attention.mix

    def mixed(part: Attention, weights: Tensor, read: Read) -> Tensor:  # what the kernel does not compute
        used.append(weights)
        return mix(part, weights, read)

    monkeypatch.setattr("plait.nn.attention.scaled_dot_product_attention", kernel)
    monkeypatch.setattr(Attention, "mix", mixed)
    fused = policy.fuse(inputs, reads=True)
    torch.testing.assert_close(fused.tokens.data, plain)
    read = [weights for name, weights in fused.reads.items() if name.startswith(ATTENTION)]
    read = [each for weights in read for each in (weights.unbind(1) if weights.ndim == 5 else [weights])]
    remaining = iter(used)
    for number, weights in enumerate(read):
        assert any(_same(weights, candidate) for candidate in remaining), f"nothing used the {number}th that is read"
    assert len(read) >= 2


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-6)


def test_the_gates_that_are_read_scale_the_tokens() -> None:
    policy = small_policy(fusion=AdaptiveConfig())
    behind: list[dict[str, Tokens]] = []
    policy.fusion.fusion.register_forward_pre_hook(lambda _, given: behind.append(given[0]))  # pyright: ignore
    inputs = policy.prepare(random_observation())
    gates, groups = policy.fuse(inputs, reads=True).reads["gates"], policy.encode(inputs)
    for number, (name, tokens) in enumerate(groups.items()):
        torch.testing.assert_close(behind[0][name].cleaned(), gates[:, number, None, None] * tokens.cleaned())


def test_the_routing_that_is_read_is_what_the_experts_were_given() -> None:
    policy = small_policy(fusion=ExpertsConfig(layers=2, experts=5))
    given: list[Tensor] = []
    for part in policy.fusion.modules():  # pyright: ignore
        if isinstance(part, ExpertMlps):
            part.register_forward_pre_hook(lambda _, arguments: given.append(arguments[1]))
    inputs = policy.prepare(random_observation())
    reads = policy.fuse(inputs, reads=True).reads
    groups = policy.fusion.embed(policy.encode(inputs))  # pyright: ignore
    mask = join(groups).mask[..., None]
    for layer, gates in enumerate(given):
        torch.testing.assert_close(reads[f"gates.{layer}"], gates * mask)
        parts = split(((gates > 0) & mask).float(), groups).values()
        load = torch.stack([part.data.sum(1) / part.mask.sum(1, keepdim=True) for part in parts], dim=1)
        torch.testing.assert_close(reads[f"load.{layer}"], load)
