"""Diffusion head: the chunk is noise that is cleaned step by step, so it can be one of several good ways."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.heads.chunk import Start, filled, step_mean
from plait.nn.attention import Read
from plait.nn.denoiser import Denoiser
from plait.nn.noise import normal_like, uniform_like
from plait.types import Shape, Tokens

PredictName = Literal["sample", "noise", "velocity"]
SMALLEST_SHARE = 0.1  # of the chunk in what is nearly pure noise: the least that is divided by where noise is predicted


@dataclass(frozen=True)
class DiffusionConfig:
    """Denoising diffusion with DDIM sampling and a cosine schedule.

    Attributes:
        steps: of sampling, each one pass of the denoiser.
        predict: what the network is trained for: the clean sample, the noise, or their velocity.
        width: of the denoiser, even and divisible by heads.
        layers: of the denoiser.
        heads: of its attention.
        drawn: new noise for every chunk, instead of noise that is saved with the policy.
        temperature: of acting: the noise times this. 1 is as trained; less stays nearer to what is likely.
    """

    steps: int = 10
    predict: PredictName = "sample"
    width: int = 128
    layers: int = 2
    heads: int = 4
    drawn: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        refuse_outside(self)

    def build(self, shape: Shape, horizon: int, actions: int) -> "Diffusion":
        denoiser = Denoiser(shape, horizon, actions, self.width, self.layers, self.heads)
        return Diffusion(denoiser, Start(horizon, actions, self.drawn, self.temperature), self.steps, self.predict)


class Diffusion(nn.Module):
    """Diffusion Policy (https://arxiv.org/abs/2303.04137) in continuous time: at time t, 0 to 1, a chunk is
    ``cos(t pi/2) sample + sin(t pi/2) noise``. DDIM: https://arxiv.org/abs/2010.02502; the velocity:
    https://arxiv.org/abs/2202.00512.
    """

    def __init__(self, denoiser: Denoiser, start: Start, steps: int = 10, predict: PredictName = "sample"):
        super().__init__()
        self.denoiser, self.start, self.steps, self.predict = denoiser, start, steps, predict

    def loss(
        self, tokens: Tokens, action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]
    ) -> Float[Tensor, ""]:
        """The mean squared error of the prediction at a random time, over valid steps and all action entries."""
        sample, time = filled(action, mask), uniform_like(action[:, 0, 0])
        noise, angle = normal_like(sample), time[:, None, None] * math.pi / 2
        alpha, sigma = angle.cos(), angle.sin()
        target = {"sample": sample, "noise": noise, "velocity": alpha * noise - sigma * sample}[self.predict]
        predicted = self.denoiser(alpha * sample + sigma * noise, time, self.denoiser.read(tokens))
        return step_mean((predicted - target).square().mean(dim=-1), mask)

    def act(self, tokens: Tokens) -> Float[Tensor, "b horizon a"]:
        x, reads = self.start(len(tokens.mask)), self.denoiser.read(tokens)
        times = [1 - step / self.steps for step in range(self.steps + 1)]
        for now, then in pairwise(times):
            sample, noise = self._estimate(x, now, reads)
            x = math.cos(then * math.pi / 2) * sample + math.sin(then * math.pi / 2) * noise
        return x

    def _estimate(self, x: Float[Tensor, "b horizon a"], time: float, reads: list[Read]) -> tuple[Tensor, Tensor]:
        """The clean sample and the noise in it, from whichever of them the network predicts."""
        predicted = self.denoiser(x, torch.full((len(x),), time, device=x.device), reads)
        alpha, sigma = math.cos(time * math.pi / 2), math.sin(time * math.pi / 2)
        if self.predict == "sample":
            return predicted, (x - alpha * predicted) / sigma
        if self.predict == "noise":
            return (x - sigma * predicted) / max(alpha, SMALLEST_SHARE), predicted
        return alpha * x - sigma * predicted, sigma * x + alpha * predicted
