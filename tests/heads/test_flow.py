import pytest
import torch
from torch import Tensor, nn

from plait.heads.chunk import Start
from plait.heads.flow import Flow, FlowConfig
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
CHUNK = torch.linspace(-2, 2, 8).view(1, 4, 2)


class Oracle(nn.Module):
    """Knows that the only chunk is ``CHUNK``: the straight way to it."""

    def forward(self, noisy: Tensor, time: Tensor, tokens: Tokens) -> Tensor:
        return (CHUNK - noisy) / (1 - time)[:, None, None]


@pytest.mark.parametrize("steps", [1, 5])
def test_euler_with_a_perfect_network_ends_at_the_chunk(steps: int) -> None:
    head = Flow(Oracle(), Start(4, 2), steps)  # type: ignore[arg-type]
    torch.testing.assert_close(head.act(TOKENS), CHUNK.expand(2, -1, -1))
    loss = head.loss(TOKENS, CHUNK.expand(2, -1, -1), torch.ones(2, 4, dtype=torch.bool))
    assert loss < 1e-6, "training asks for what sampling uses"


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="flow: 0 sampling steps are too few; at least 1"):
        FlowConfig(steps=0).build(Shape(3, 8), 4, 2)
