"""What heads share: which steps of a chunk count, and the noise that sampling starts from."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.nn.noise import normal_like


def cleaned(action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]) -> Float[Tensor, "b horizon a"]:
    """Zeros after the episode's end: nothing may depend on what stands there, not even on a NaN."""
    return torch.where(mask[..., None], action, 0.0)


def filled(action: Float[Tensor, "b horizon a"], mask: Bool[Tensor, "b horizon"]) -> Float[Tensor, "b horizon a"]:
    """Noise after the episode's end. A denoiser that sees all steps at once learns to expect nothing of these, which
    at acting hold what it was never taught; zeros would teach it to trust them.
    """
    return torch.where(mask[..., None], action, normal_like(action))


def step_mean(error: Float[Tensor, "b horizon"], mask: Bool[Tensor, "b horizon"]) -> Float[Tensor, ""]:
    """The mean over the valid steps of all rows; 0 when there is none."""
    return (error * mask).sum() / mask.sum().clamp(min=1)


class Start(nn.Module):
    """Where a sampling head starts: noise of one chunk.

    Fixed noise is drawn once, when the head is built, and saved with it: the same observation always gives the same
    chunk, a row does not depend on its place in the batch, replanning stays with the way that was chosen, and a CUDA
    graph has nothing to draw. The price: of several equally good ways it always takes the same, and what is random in
    the demonstrations becomes the same small error at every plan instead of one that averages out.

    Args:
        drawn: draw anew at every call, by torch's generator. A row then depends on its place in the batch.
        temperature: what the noise is multiplied by.

    Raises:
        ValueError: a temperature below 0.
    """

    noise: Tensor

    def __init__(self, horizon: int, actions: int, drawn: bool = False, temperature: float = 1.0):
        super().__init__()
        self.drawn, self.temperature = drawn, temperature
        self.register_buffer("noise", torch.randn(horizon, actions))

    def forward(self, rows: int) -> Float[Tensor, "b horizon a"]:
        noise = self.noise.expand(rows, -1, -1)
        return self.temperature * (torch.randn_like(noise) if self.drawn else noise)
