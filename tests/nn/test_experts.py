import pytest
import torch
from torch.nn.functional import gelu

from plait.nn.experts import ExpertMlps, Router, balance_loss

X, KINDS = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1, 1, 2])
ALL = torch.ones(2, 6, dtype=torch.bool)


def _router(top_k: int = 2) -> Router:
    torch.manual_seed(0)
    return Router(dim=8, kinds=3, experts=4, top_k=top_k)


def test_each_token_passes_through_its_own_experts_and_no_other() -> None:
    torch.manual_seed(0)
    mlps, (gates, _) = ExpertMlps(dim=8, experts=4, expansion=2), _router()(X, KINDS)
    up, down = mlps.up.weight.unflatten(0, (4, 16)), mlps.down.weight.unflatten(1, (4, 16))
    up_bias = mlps.up.bias.unflatten(0, (4, 16))
    for row in range(2):
        for token in range(6):
            x = X[row, token]
            expected = sum(
                gates[row, token, e] * (down[:, e] @ gelu(up[e] @ x + up_bias[e]) + mlps.bias[e])
                for e in gates[row, token].nonzero().flatten().tolist()
            )
            torch.testing.assert_close(mlps(X, gates)[row, token], expected)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_no_token_is_dropped_however_crowded_an_expert_is(top_k: int) -> None:
    router = _router(top_k)
    router.kind.data[:, 0] = 100.0  # everybody wants the first
    gates, _ = router(X, KINDS)
    assert gates[..., 0].gt(0).all() and gates[..., 0].gt(0).sum() == 12
    gates, _ = _router(top_k)(X, KINDS)
    assert gates.gt(0).sum(-1).eq(top_k).all()


def test_the_same_token_goes_elsewhere_when_it_comes_from_another_modality() -> None:
    router = _router(top_k=1)
    router.kind.data = 100 * torch.eye(3, 4)
    gates, _ = router(X[:, :1].expand(2, 6, 8), KINDS)
    assert gates.argmax(-1).eq(KINDS).all()


def test_the_router_learns_even_with_one_expert_per_token() -> None:
    router, mlps = _router(top_k=1), ExpertMlps(8, 4, 1)
    mlps(X, router(X, KINDS)[0]).square().sum().backward()
    assert router.token.weight.grad.any() and router.kind.grad.any()


def test_balance_is_one_when_all_are_used_equally_and_grows_with_crowding() -> None:
    equal = torch.full((2, 6, 4), 0.25)
    assert balance_loss(equal, equal, ALL).item() == pytest.approx(1.0)
    crowded = torch.zeros(2, 6, 4)
    crowded[..., 0] = 1.0
    assert balance_loss(crowded, crowded, ALL).item() == pytest.approx(4.0)
    assert balance_loss(equal, equal, ~ALL).item() == 0.0


def test_padding_takes_no_part_in_the_balance() -> None:
    gates, probabilities = _router()(X, KINDS)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    expected = balance_loss(gates, probabilities, mask)
    assert balance_loss(gates, probabilities, ALL) != expected
    garbage = torch.where(mask[..., None], gates, 9.0), torch.where(mask[..., None], probabilities, torch.nan)
    torch.testing.assert_close(balance_loss(*garbage, mask), expected)


def test_descending_the_loss_brings_unused_experts_back() -> None:
    router, x = _router(top_k=1), torch.randn(4, 50, 8, generator=torch.Generator().manual_seed(1))
    router.kind.data[:, 0] = 3.0
    kinds, mask = torch.zeros(50, dtype=torch.long), torch.ones(4, 50, dtype=torch.bool)
    share = lambda: router(x, kinds)[0].gt(0).float().mean((0, 1)).max().item()  # noqa: E731
    assert share() > 0.95
    optimiser = torch.optim.Adam(router.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        balance_loss(*router(x, kinds), mask).backward()
        optimiser.step()
    assert share() < 0.5


def test_more_active_experts_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k = 5 is not between 1 and the number of experts"):
        Router(8, 3, 4, 5)
