"""What holds for every member of the union: windows, steps and resets give the same; rows and padding do not meet."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plait.config import from_dict, members, to_dict
from plait.memory import Memory, RecurrentConfig
from plait.memory.history import History, MemoryPart

K, ROWS, INPUTS, OUTPUTS = 4, 3, 6, 5
CONFIGS: dict[str, Any] = {name: replace(part(), steps=K) for name, part in members(Memory).items()}
CONFIGS |= {"gru": RecurrentConfig(K, "gru"), "two layers": RecurrentConfig(K, layers=2)}


@pytest.fixture(params=CONFIGS, ids=str)
def memory(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return CONFIGS[request.param].build(INPUTS, OUTPUTS).eval()


def _features(moments: int, seed: int = 0) -> Tensor:
    return torch.randn(ROWS, moments, INPUTS, generator=torch.Generator().manual_seed(seed))


def _never(moments: int) -> Tensor:
    return torch.zeros(ROWS, moments, dtype=torch.bool)


def _at(moment: int, row: int | slice = slice(None), moments: int = 10) -> Tensor:
    reset = _never(moments)
    reset[row, moment] = True
    return reset


def _run(memory: Any, features: Tensor, reset: Tensor) -> Tensor:
    return memory(features, memory.start(ROWS), reset)[0]


def test_each_cell_is_what_it_is_called() -> None:
    assert isinstance(RecurrentConfig(K, "gru").build(INPUTS, OUTPUTS).cell, nn.GRU)
    assert isinstance(RecurrentConfig(K, "lstm").build(INPUTS, OUTPUTS).cell, nn.LSTM)


def test_one_vector_a_moment_and_a_state_of_the_last_k(memory: Any) -> None:
    assert isinstance(memory, MemoryPart)
    output, state = memory(_features(10), memory.start(ROWS), _never(10))
    assert output.shape == (ROWS, 10, OUTPUTS)
    assert torch.equal(state.vectors, _features(10)[:, -K:]) and state.mask.all()


def test_one_moment_at_a_time_gives_the_same_as_all_at_once(memory: Any) -> None:
    """Also over a reset in the middle, and when the window has long been full."""
    features, reset = _features(10), _at(6, row=1)
    whole, after = memory(features, memory.start(ROWS), reset)
    state, steps = memory.start(ROWS), []
    for t in range(10):
        output, state = memory(features[:, t : t + 1], state, reset[:, t : t + 1])
        steps.append(output)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)
    assert torch.equal(state.mask, after.mask) and torch.equal(state.cleaned(), after.cleaned())


def test_a_window_cut_out_of_an_episode_gives_what_acting_through_it_gives(memory: Any) -> None:
    """How training does it: remember all but the last moment, answer for the last one alone."""
    features = _features(10)
    before = memory.start(ROWS).after(features[:, 10 - K : -1], _never(K - 1))
    alone, _ = memory(features[:, -1:], before, _never(1))
    torch.testing.assert_close(alone[:, 0], _run(memory, features, _never(10))[:, -1])


def test_a_reset_in_the_middle_of_a_window_is_a_fresh_start(memory: Any) -> None:
    features = _features(10)
    late = _run(memory, features, _at(6))[:, 6:]
    torch.testing.assert_close(late, _run(memory, features[:, 6:], _never(4)))
    assert not torch.allclose(late, _run(memory, features, _never(10))[:, 6:], atol=1e-4)


def test_a_reset_of_one_row_leaves_the_others_alone(memory: Any) -> None:
    whole, partly = (_run(memory, _features(10), reset) for reset in (_never(10), _at(6, row=0)))
    torch.testing.assert_close(partly[1:], whole[1:])
    assert not torch.allclose(partly[0, 6:], whole[0, 6:], atol=1e-4)


def test_rows_do_not_meet(memory: Any) -> None:
    features = _features(10)
    features[0] = _features(10, seed=1)[0]
    torch.testing.assert_close(_run(memory, features, _never(10))[1:], _run(memory, _features(10), _never(10))[1:])


@pytest.mark.parametrize("poison", [7.0, float("nan"), float("inf")])
def test_what_is_masked_or_forgotten_has_no_influence(memory: Any, poison: float) -> None:
    features, reset = _features(10), _at(5)
    clean = _run(memory, features, reset)[:, 5:]
    features[:, :5] = poison  # before the episode's start
    state = History(torch.full((ROWS, K, INPUTS), poison), torch.zeros(ROWS, K, dtype=torch.bool))
    torch.testing.assert_close(memory(features, state, reset)[0][:, 5:], clean)


def test_nor_on_the_gradient(memory: Any) -> None:
    features = _features(10).requires_grad_()
    poisoned = torch.where(torch.arange(10)[:, None] < 5, torch.nan, features)
    output, _ = memory(poisoned[:, -1:], memory.start(ROWS).after(poisoned[:, :-1], _at(5)[:, :-1]), _never(1))
    output.square().sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()
    assert features.grad[:, 10 - K :].abs().sum(dim=(0, 2)).all() and not features.grad[:, : 10 - K].any()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in memory.parameters())


def test_what_was_seen_k_moments_ago_is_forgotten_and_later_ones_are_not(memory: Any) -> None:
    whole = _run(memory, _features(10), _never(10))
    for moment, matters in ((10 - K - 1, False), (10 - K, True), (8, True), (9, True)):
        features = _features(10)
        features[:, moment] += 1
        assert torch.allclose(_run(memory, features, _never(10))[:, -1], whole[:, -1], atol=1e-6) != matters


def test_the_order_matters(memory: Any) -> None:
    features = _features(K)
    swapped = features[:, [1, 0, *range(2, K)]]
    whole = _run(memory, features, _never(K))
    assert not torch.allclose(_run(memory, swapped, _never(K))[:, -1], whole[:, -1], atol=1e-5)


def test_the_module_keeps_nothing(memory: Any) -> None:
    before = {name: value.clone() for name, value in memory.state_dict().items()}
    first = _run(memory, _features(10), _never(10))
    memory(_features(10, seed=1), memory.start(ROWS), _never(10))
    torch.testing.assert_close(_run(memory, _features(10), _never(10)), first)
    assert not list(memory.buffers())
    assert all(torch.equal(value, before[name]) for name, value in memory.state_dict().items())


def test_it_works_in_bfloat16(memory: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output, state = memory(_features(10).bfloat16(), memory.start(ROWS), _never(10))
        memory(_features(1).bfloat16(), state, _never(1))
    torch.testing.assert_close(output.float(), _run(memory, _features(10), _never(10)), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_survive_json_and_one_moment_is_refused(name: str) -> None:
    config = CONFIGS[name]
    assert from_dict(type(config), to_dict(config)) == config
    with pytest.raises(ValueError, match="steps: 1 is too small; at least 2"):
        replace(config, steps=1).build(INPUTS, OUTPUTS)
