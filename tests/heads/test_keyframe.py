import pytest
import torch

from plait.heads.keyframe import KeyframeConfig
from plait.nn.normaliser import Normaliser
from plait.types import Shape, Tokens


def test_it_predicts_in_metres_and_its_loss_is_in_deviations() -> None:
    normalise = Normaliser(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.1, 0.1]))
    head = KeyframeConfig().build(Shape(3, 8), normalise)
    tokens = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
    position = head(tokens).detach()
    assert position.shape == (2, 2, 3)
    assert (position - normalise.mean).abs().max() < 1  # an untrained head is near the mean
    offset = torch.tensor([[0.2, 5.0], [5.0, 5.0]])[..., None]
    known = torch.tensor([[True, False], [False, False]])
    torch.testing.assert_close(head.loss(tokens, position + offset, known), torch.tensor(2.0))
    assert head.loss(tokens, position, torch.zeros(2, 2, dtype=torch.bool)) == 0


def test_only_the_next_one_on_request() -> None:
    head = KeyframeConfig(ahead=1).build(Shape(3, 8), Normaliser.identity(3))
    tokens = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
    position = head(tokens).detach()
    assert position.shape == (2, 1, 3)
    both = torch.cat([position, position + 9], dim=1)
    assert head.loss(tokens, both, torch.ones(2, 2, dtype=torch.bool)) == 0
    with pytest.raises(ValueError, match="ahead: 3 is too large; at least 1 and at most 2"):
        KeyframeConfig(ahead=3)
