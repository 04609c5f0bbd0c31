import pytest
import torch

from plait.heads.discrete import DiscreteConfig
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool))


def test_step_k_is_classified_from_token_k_alone() -> None:
    head = DiscreteConfig(form="tokens").build(Shape(4, 8), horizon=4, actions=3)
    changed = TOKENS.data.clone()
    changed[:, 2] += 1
    differs = (head.act(Tokens(changed, TOKENS.mask)) - head.act(TOKENS)).abs().sum(dim=(0, 2)) > 0
    assert differs.tolist() == [False, False, True, False]


def test_another_number_of_tokens_than_steps_is_refused() -> None:
    """As many tokens as steps may also be an accident (four modalities, a chunk of four), so it has to be asked for."""
    DiscreteConfig().build(Shape(4, 8), horizon=4, actions=3)
    with pytest.raises(ValueError, match=r"8 steps; use --fusion unified --fusion\.actions 8, or"):
        DiscreteConfig(form="tokens").build(Shape(4, 8), horizon=8, actions=3)


def test_it_takes_the_more_frequent_of_two_ways() -> None:
    head = DiscreteConfig().build(Shape(4, 8), horizon=2, actions=1)
    action = torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1).expand(-1, 2, -1)
    tokens = Tokens(TOKENS.data[:1].expand(3, -1, -1), TOKENS.mask[:1].expand(3, -1))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        head.loss(tokens, action, torch.ones(3, 2, dtype=torch.bool)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (head.act(tokens) - 1).abs().max() < 0.1
