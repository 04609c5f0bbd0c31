import math

import pytest
import torch
from torch import Tensor

from plait.heads.chunk import Start
from plait.heads.diffusion import Diffusion, DiffusionConfig
from plait.nn.attention import Read
from plait.nn.denoiser import Denoiser
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
CHUNK = torch.linspace(-2, 2, 8).view(1, 4, 2)


class Oracle(Denoiser):
    """Knows that the only chunk is ``CHUNK``, and answers what a perfect network would."""

    def __init__(self, predict: str):
        super().__init__(Shape(3, 8), 4, 2, width=4)
        self.predict = predict

    def read(self, tokens: Tokens) -> list[Read]:
        return []

    def forward(self, noisy: Tensor, time: Tensor, reads: list[Read]) -> Tensor:
        angle = time[:, None, None] * math.pi / 2
        noise = (noisy - angle.cos() * CHUNK) / angle.sin()
        return {
            "sample": CHUNK.expand_as(noisy),
            "noise": noise,
            "velocity": angle.cos() * noise - angle.sin() * CHUNK,
        }[self.predict]


@pytest.mark.parametrize("predict", ["sample", "noise", "velocity"])
def test_ddim_with_a_perfect_network_ends_at_the_chunk(predict: str) -> None:
    for steps in (2, 10):
        head = Diffusion(Oracle(predict), Start(4, 2), steps, predict)  # type: ignore[arg-type]
        torch.testing.assert_close(head.act(TOKENS), CHUNK.expand(2, -1, -1), atol=1e-4, rtol=0)
    action, mask = CHUNK.expand(2, -1, -1), torch.ones(2, 4, dtype=torch.bool)
    assert head.loss(TOKENS, action, mask) < 1e-6, "training asks for what sampling uses"


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"diffusion\.steps: 0 is too small; at least 1"):
        DiffusionConfig(steps=0)
