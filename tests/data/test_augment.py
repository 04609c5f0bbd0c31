import pytest
import torch

from plait.data.augment import Augment, jitter, shift


def noise(b: int = 6, size: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (b, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shift_moves_and_repeats_the_edge():
    images = noise(2)
    moved = shift(images, torch.tensor([[2, -1], [0, 0]]))
    assert torch.equal(moved[0, :-2, 1:], images[0, 2:, :-1])
    assert torch.equal(moved[0, -2:, 1:], images[0, -1:, :-1].expand(2, -1, -1))
    assert torch.equal(moved[0, :-2, 0], images[0, 2:, 0])
    assert torch.equal(moved[1], images[1])


def test_jitter_is_what_it_says():
    images = torch.tensor([100, 120, 140], dtype=torch.uint8).expand(4, 2, 2, 3)
    factors = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, -1.0]])
    pixels = jitter(images, factors)[:, 0, 0].tolist()
    assert pixels == [[100, 120, 140], [126, 146, 166], [86, 116, 146], [120, 120, 120]]


def test_it_is_the_textbook_formulation_to_within_rounding():
    """DrQ's shift: pad with the edge and crop. Jitter one change after another, in double precision."""
    images, generator = noise(40, 24), seeded(5)
    offset = torch.randint(-3, 4, (40, 2), generator=generator)
    factors = (torch.rand(40, 3, generator=generator) * 2 - 1) * 0.4
    padded = torch.nn.functional.pad(images.permute(0, 3, 1, 2).double(), (3, 3, 3, 3), mode="replicate")
    crops = [each[:, 3 + y : 27 + y, 3 + x : 27 + x] for each, (y, x) in zip(padded, offset.tolist(), strict=True)]
    expected = torch.stack(crops).permute(0, 2, 3, 1)
    brightness, contrast, saturation = factors.double()[:, :, None, None, None].unbind(1)
    grey = expected.mean(-1, keepdim=True)
    expected = grey + (1 + saturation) * (expected - grey)
    expected = 127.5 + (1 + contrast) * (expected - 127.5) + 255 * brightness
    away = (jitter(shift(images, offset), factors) - expected.clamp(0, 255)).abs()
    assert away.max() < 0.5 + 1e-3


def test_jitter_stays_in_range():
    images = torch.tensor([0, 255, 128], dtype=torch.uint8).expand(2, 1, 1, 3)
    pixels = jitter(images, torch.tensor([[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5]]))
    assert pixels.dtype == torch.uint8 and pixels[0, 0, 0, 1] == 255 and pixels[1, 0, 0, 0] == 0


def test_draws_depend_on_the_generator_alone_and_differ_between_images():
    augment, images = Augment(), noise()[:1].expand(6, -1, -1, -1).contiguous()
    before = images.clone()
    one, same, other = (augment(images, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and torch.equal(images, before)
    assert all(not torch.equal(one[0], one[i]) for i in range(1, 6))


def test_nothing_switched_on_changes_nothing():
    images = noise()
    assert torch.equal(Augment(0, 0.0, 0.0, 0.0)(images, seeded(0)), images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_sees_the_same():
    images = noise()
    here, there = Augment()(images, seeded(3)), Augment()(images.cuda(), seeded(3)).cpu()
    assert (here.int() - there.int()).abs().max() <= 1
