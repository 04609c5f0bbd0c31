import torch

from plait.nn.denoiser import Denoiser, waves
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))


def test_every_input_matters_and_every_step_sees_the_others() -> None:
    denoiser, noisy, time = Denoiser(Shape(3, 8), 4, 2, width=16), torch.randn(2, 4, 2), torch.tensor([0.1, 0.1])
    reads = denoiser.read(TOKENS)
    out = denoiser(noisy, time, reads)
    assert out.shape == noisy.shape
    assert not torch.allclose(denoiser(noisy, time + 0.1, reads), out)
    assert not torch.allclose(denoiser(noisy, time, denoiser.read(Tokens(TOKENS.data + 1, TOKENS.mask))), out)
    other = noisy.clone()
    other[:, 3] += 1
    assert ((denoiser(other, time, reads) - out).abs().sum(-1) > 1e-6).all()


def test_times_are_told_apart_smoothly() -> None:
    features = waves(torch.linspace(0, 1, 101), 32)
    step, whole = (features[1:] - features[:-1]).norm(dim=-1), (features[0] - features[50]).norm()
    assert step.max() < whole / 3
    assert len(features.unique(dim=0)) == 101
