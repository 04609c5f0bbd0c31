import torch

from plait.heads.keyframe import KeyframeConfig
from plait.nn.normaliser import Normaliser
from plait.types import Shape, Tokens


def test_it_predicts_in_metres_and_its_loss_is_in_deviations() -> None:
    normalise = Normaliser(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.1, 0.1]))
    head = KeyframeConfig().build(Shape(3, 8), normalise)
    tokens = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
    position = head(tokens).detach()
    assert (position - normalise.mean).abs().max() < 1  # an untrained head is near the mean
    offset = torch.tensor([[0.2], [5.0]])
    torch.testing.assert_close(head.loss(tokens, position + offset, torch.tensor([True, False])), torch.tensor(2.0))
    assert head.loss(tokens, position, torch.tensor([False, False])) == 0
