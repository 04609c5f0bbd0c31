"""Flow-matching head: straight ways from noise to chunks, followed in few steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.heads.chunk import Start, filled, step_mean
from plait.nn.denoiser import Denoiser
from plait.nn.noise import normal_like, uniform_like
from plait.types import Shape, Tokens


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching, sampled with Euler's method.

    Attributes:
        steps: of Euler's method, each one pass of the denoiser.
        width: of the denoiser, even and divisible by heads.
        layers: of the denoiser.
        heads: of its attention.
        drawn: new noise for every chunk, instead of noise that is saved with the policy.
        temperature: of acting: the noise times this. 1 is as trained; less stays nearer to what is likely.
    """

    steps: int = 5
    width: int = 128
    layers: int = 2
    heads: int = 4
    drawn: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        refuse_outside(self)

    def build(self, shape: Shape, horizon: int, actions: int) -> "Flow":
        denoiser = Denoiser(shape, horizon, actions, self.width, self.layers, self.heads)
        return Flow(denoiser, Start(horizon, actions, self.drawn, self.temperature), self.steps)


class Flow(nn.Module):
    """Rectified flow (https://arxiv.org/abs/2209.03003) on chunks of actions, as in pi0
    (https://arxiv.org/abs/2410.24164): at time t a chunk is ``(1 - t) noise + t action``, and the network predicts
    the way ``action - noise``.
    """

    def __init__(self, denoiser: Denoiser, start: Start, steps: int = 5):
        super().__init__()
        self.denoiser, self.start, self.steps = denoiser, start, steps

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]:
        """The mean squared error of the way at a random time, over valid steps and all action entries."""
        action, time = filled(action, mask), uniform_like(action[:, 0, 0])
        noise = normal_like(action)
        between = torch.lerp(noise, action, time[:, None, None])
        way = self.denoiser(between, time, self.denoiser.read(tokens))
        return step_mean((way - (action - noise)).square().mean(dim=-1), mask)

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        x, reads = self.start(len(tokens.mask)), self.denoiser.read(tokens)
        for step in range(self.steps):
            time = torch.full((len(x),), step / self.steps, device=x.device)
            x = x + self.denoiser(x, time, reads) / self.steps
        return x
