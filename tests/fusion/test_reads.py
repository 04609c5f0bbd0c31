"""What a fusion gives to be read is what it really used: the kernel's own inputs say which weights those were."""

from typing import Any

import pytest
import torch
from torch import Tensor

from plait.fusion import BottleneckConfig, CrossAttentionConfig, ExpertsConfig, HierarchicalConfig, UnifiedConfig
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
    monkeypatch.setattr("plait.nn.attention.scaled_dot_product_attention", kernel)
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
