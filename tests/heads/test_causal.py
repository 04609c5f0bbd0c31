import torch

from plait.heads.causal import Causal
from plait.heads.discrete import DiscreteConfig
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(64, 3, 8), torch.ones(64, 3, dtype=torch.bool))


def built(horizon: int, actions: int) -> Causal:
    head = DiscreteConfig(form="causal", width=32).build(Shape(3, 8), horizon, actions)
    assert isinstance(head, Causal)
    return head


def test_steps_and_entries_agree_on_one_way() -> None:
    """Two chunks, equally frequent, opposite in every entry: each entry follows those before it."""
    head = built(horizon=3, actions=2)
    way = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.3]])
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(120):
        side = torch.randint(0, 2, (64, 1, 1)) * 2 - 1
        head.loss(TOKENS, side * way, torch.ones(64, 3, dtype=torch.bool)).backward()
        optimizer.step()
        optimizer.zero_grad()
    chunk = head.act(TOKENS)
    assert torch.minimum((chunk - way).abs().amax((1, 2)), (chunk + way).abs().amax((1, 2))).max() < 0.3


def test_an_entry_is_told_only_those_before_it() -> None:
    head, action, mask = built(horizon=4, actions=2), torch.randn(64, 4, 2), torch.ones(64, 4, dtype=torch.bool)
    first = mask.clone()
    first[:, 1:] = False
    later = action.clone()
    later[:, 2:] += 1
    assert not torch.allclose(head.loss(TOKENS, later, mask), head.loss(TOKENS, action, mask))
    torch.testing.assert_close(head.loss(TOKENS, later, first), head.loss(TOKENS, action, first))
