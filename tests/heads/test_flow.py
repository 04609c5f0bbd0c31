import pytest
import torch
from torch import Tensor

from plait.heads.chunk import Start
from plait.heads.flow import Flow, FlowConfig
from plait.nn.attention import Read
from plait.nn.denoiser import Denoiser
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
CHUNK = torch.linspace(-2, 2, 8).view(1, 4, 2)


class Oracle(Denoiser):
    """Knows that the only chunk is ``CHUNK``: the straight way to it."""

    def __init__(self) -> None:
        super().__init__(Shape(3, 8), 4, 2, width=4)

    def read(self, tokens: Tokens) -> list[Read]:
        return []

    def forward(self, noisy: Tensor, time: Tensor, reads: list[Read]) -> Tensor:
        return (CHUNK - noisy) / (1 - time)[:, None, None]


@pytest.mark.parametrize("steps", [1, 5])
def test_euler_with_a_perfect_network_ends_at_the_chunk(steps: int) -> None:
    head = Flow(Oracle(), Start(4, 2), steps)
    torch.testing.assert_close(head.act(TOKENS), CHUNK.expand(2, -1, -1))
    loss = head.loss(TOKENS, CHUNK.expand(2, -1, -1), torch.ones(2, 4, dtype=torch.bool))
    assert loss < 1e-6, "training asks for what sampling uses"


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flow\.steps: 0 is too small; at least 1"):
        FlowConfig(steps=0)
