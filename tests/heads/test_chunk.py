"""What every head owes: steps after the episode's end take no part, sampling is repeatable, rows do not meet."""

from typing import Any

import pytest
import torch

from plait.config import from_dict, members, to_dict
from plait.heads import DiffusionConfig, DiscreteConfig, FlowConfig, Head, MixtureConfig, RegressionConfig
from plait.heads.chunk import Start, step_mean
from plait.policy import PolicyConfig
from plait.types import Shape, Tokens

HORIZON, ACTIONS = 4, 3
HEADS: dict[str, Any] = {
    "l1": RegressionConfig(),
    "mse": RegressionConfig(loss="mse"),
    "huber": RegressionConfig(loss="huber"),
    "parallel": DiscreteConfig(),
    "tokens": DiscreteConfig(form="tokens"),
    "causal": DiscreteConfig(form="causal", width=32),
    "mixture": MixtureConfig(),
    "sample": DiffusionConfig(width=32),
    "noise": DiffusionConfig(width=32, predict="noise"),
    "velocity": DiffusionConfig(width=32, predict="velocity"),
    "flow": FlowConfig(width=32),
}
DRAWN = [MixtureConfig(drawn=True), DiffusionConfig(width=32, drawn=True), FlowConfig(width=32, drawn=True)]
_SEEDED = torch.Generator().manual_seed(0)
TOKENS = Tokens(torch.randn(3, 4, 8, generator=_SEEDED), torch.ones(3, 4, dtype=torch.bool))
PLACES = torch.randn(4, 8, generator=_SEEDED)
MASK = torch.arange(HORIZON) < torch.tensor([[4], [2], [0]])
each_head = pytest.mark.parametrize("config", HEADS.values(), ids=HEADS)


def built(config: Any, horizon: int = HORIZON, tokens: int = 4) -> Any:
    torch.manual_seed(0)
    return config.build(Shape(tokens, 8), horizon, ACTIONS).eval()


def test_every_member_is_checked_here() -> None:
    assert {type(config) for config in HEADS.values()} == set(members(Head).values())


@each_head
def test_steps_after_the_end_take_no_part(config: Any) -> None:
    """Neither in the loss nor in any gradient, whatever stands there, NaN included."""
    head, action = built(config), torch.randn(3, HORIZON, ACTIONS)
    results = []
    for rest in (0.0, 1e6, torch.nan):
        torch.manual_seed(1)
        head.zero_grad()
        loss = head.loss(TOKENS, torch.where(MASK[..., None], action, rest), MASK)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in head.parameters() if p.grad is not None)])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)
    assert results[0][0].isfinite() and len(results[0]) > 1


@each_head
def test_a_batch_without_any_valid_step_has_a_finite_loss(config: Any) -> None:
    loss = built(config).loss(TOKENS, torch.randn(3, HORIZON, ACTIONS), torch.zeros(3, HORIZON, dtype=torch.bool))
    assert loss.isfinite()


@each_head
def test_it_acts_the_same_whatever_the_generator_and_the_other_rows(config: Any) -> None:
    head = built(config)
    chunk = head.act(TOKENS)
    assert chunk.shape == (3, HORIZON, ACTIONS)
    assert torch.equal(head.act(TOKENS), chunk)
    alone = head.act(Tokens(TOKENS.data[1:2], TOKENS.mask[1:2]))
    torch.testing.assert_close(alone, chunk[1:2])


@each_head
def test_a_single_step_is_a_chunk_of_one(config: Any) -> None:
    head, tokens = built(config, horizon=1, tokens=1), Tokens(TOKENS.data[:, :1], TOKENS.mask[:, :1])
    assert head.act(tokens).shape == (3, 1, ACTIONS)
    assert head.loss(tokens, torch.randn(3, 1, ACTIONS), MASK[:, :1]).isfinite()


@each_head
def test_extreme_actions_of_entries_that_rarely_move_stay_finite(config: Any) -> None:
    """With bfloat16 activations too. An entry that nearly always stands still has few, but huge normalised actions."""
    head, action = built(config), 300 * torch.ones(3, HORIZON, ACTIONS)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(TOKENS, action, MASK)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


@each_head
def test_it_learns_a_constant_chunk(config: Any) -> None:
    """A sampler: wherever its noise starts. The fused tokens differ by their place alone, as action tokens do."""
    head, action = built(config), torch.linspace(-1.5, 1.5, HORIZON * ACTIONS).view(HORIZON, ACTIONS)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(200 if isinstance(config, DiffusionConfig | FlowConfig) else 50):
        tokens = Tokens(PLACES + 0.1 * torch.randn(32, 4, 8), torch.ones(32, 4, dtype=torch.bool))
        mask = torch.ones(32, HORIZON, dtype=torch.bool)
        head.loss(tokens, action.expand(32, -1, -1), mask).backward()
        optimizer.step()
        optimizer.zero_grad()
    error = (head.act(Tokens(PLACES[None], TOKENS.mask[:1])) - action).abs().max()
    assert error < 0.35, f"off by {error:.2f} standard deviations"


@pytest.mark.parametrize("config", DRAWN, ids=lambda config: type(config).__name__)
def test_drawn_chunks_follow_the_seed(config: Any) -> None:
    head, tokens = built(config), Tokens(TOKENS.data[:1].expand(50, -1, -1), TOKENS.mask[:1].expand(50, -1))
    torch.manual_seed(3)
    first = head.act(tokens)
    assert not torch.allclose(first[0], first[1:]), "rows are drawn each for itself"
    torch.manual_seed(3)
    assert torch.equal(head.act(tokens), first)


def test_the_noise_is_saved_with_the_head() -> None:
    head, other = built(FlowConfig(width=32)), FlowConfig(width=32).build(Shape(4, 8), HORIZON, ACTIONS).eval()
    assert not torch.allclose(other.act(TOKENS), head.act(TOKENS))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.act(TOKENS), head.act(TOKENS))


def test_a_temperature_scales_the_noise() -> None:
    start = Start(HORIZON, ACTIONS, temperature=0.5)
    assert torch.equal(start(2), 0.5 * start.noise.expand(2, -1, -1))
    torch.manual_seed(0)
    whole = Start(HORIZON, ACTIONS, drawn=True)(2)
    torch.manual_seed(0)
    other = Start(HORIZON, ACTIONS, drawn=True, temperature=0.5)(2)
    assert torch.equal(other, 0.5 * whole)
    with pytest.raises(ValueError, match=r"flow.temperature: -1 is too small; at least 0"):
        FlowConfig(temperature=-1)


def test_the_mean_is_over_valid_steps_of_all_rows() -> None:
    error = torch.arange(12.0).view(3, 4)
    assert step_mean(error, MASK) == (0 + 1 + 2 + 3 + 4 + 5) / 6


@each_head
def test_the_choice_survives_json(config: Any) -> None:
    policy = PolicyConfig(head=config)
    assert to_dict(policy)["head"]["type"] in members(Head)
    assert from_dict(PolicyConfig, to_dict(policy)) == policy
