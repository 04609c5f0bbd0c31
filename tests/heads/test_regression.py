import torch

from plait.heads.regression import RegressionConfig
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))


def test_steps_after_the_end_do_not_count() -> None:
    head = RegressionConfig(loss="mse").build(Shape(3, 8), horizon=4, actions=7)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    action = head.act(TOKENS).detach() + mask[..., None] * 2.0 + ~mask[..., None] * 99.0
    torch.testing.assert_close(head.loss(TOKENS, action, mask), torch.tensor(4.0))


def test_the_loss_is_the_one_that_was_asked_for() -> None:
    for name, expected in {"l1": 3.0, "mse": 9.0, "huber": 2.5}.items():
        head = RegressionConfig(loss=name).build(Shape(3, 8), horizon=2, actions=7)
        loss = head.loss(TOKENS, head.act(TOKENS).detach() + 3, torch.ones(2, 2, dtype=torch.bool))
        torch.testing.assert_close(loss, torch.tensor(expected))
