"""A memory inside a policy: what was shown in the first moment of a window decides the action in its last one."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from plait.config import members
from plait.encoders.tokenizer import Tokenizer
from plait.memory import Memory
from plait.memory.join import joined_shape, remember_window
from plait.policy import Policy, PolicyConfig
from plait.spec import Spec
from plait.types import Batch, Observation, Shape, Tokens

MOMENTS = 4
SPEC = Spec(cameras={}, state=("cue",), actions=("move",))


def _batch(policy: Policy, rows: int, generator: torch.Generator) -> Batch:
    """The cue, 1 or -1, is seen once, in the window's first valid moment; then it is 0, and the action is the cue."""
    cue = torch.randint(0, 2, (rows,), generator=generator) * 2.0 - 1
    begins = torch.randint(0, MOMENTS - 1, (rows,), generator=generator)
    window = torch.arange(MOMENTS) >= begins[:, None]
    seen = torch.where(torch.arange(MOMENTS) == begins[:, None], cue[:, None], 0.0)
    seen = torch.where(window, seen, -cue[:, None])  # what stands before the episode's start would mislead
    if policy.moments == 1:
        seen = seen[:, -1:]
    inputs = policy.prepare(Observation({}, seen.reshape(-1, 1), ["go"] * seen.numel()))
    inputs = inputs if policy.moments == 1 else replace(inputs, window=window)
    return Batch(inputs, cue[:, None, None], torch.ones(rows, 1, dtype=torch.bool))


@pytest.mark.parametrize("name", [*members(Memory), "none"])
def test_with_a_memory_what_was_seen_once_is_acted_on_later_and_without_one_it_is_not(name: str) -> None:
    torch.manual_seed(0)
    parts: dict[str, Any] = {"memory": None if name == "none" else members(Memory)[name](steps=MOMENTS)}
    policy = PolicyConfig(action_horizon=1, execute=1, **parts).build(SPEC, Tokenizer.build(["go"]))
    optimizer, generator = torch.optim.AdamW(policy.parameters(), 2e-3), torch.Generator().manual_seed(0)
    for _ in range(30):
        policy.loss(_batch(policy, 32, generator))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    batch = _batch(policy.eval(), 200, generator)
    right = (policy.predict(batch.inputs).sign() == batch.action).float().mean().item()
    assert right < 0.65 if name == "none" else right > 0.97


def test_the_last_moments_tokens_and_one_more() -> None:
    memory = members(Memory)["recurrent"](steps=3).build(2 * 5, 5)
    tokens = Tokens(torch.randn(6, 2, 5), torch.tensor([[True, False]] * 6))
    joined = remember_window(memory, tokens, torch.ones(2, 3, dtype=torch.bool))
    assert joined_shape(Shape(2, 5)) == Shape(3, 5) and joined.data.shape == (2, 3, 5)
    assert torch.equal(joined.data[:, :2], tokens.data[[2, 5]]) and joined.mask.tolist() == [[True, False, True]] * 2
