import numpy as np
import torch

from plait.data.images import resize


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_resize_leaves_the_right_size_alone():
    images = torch.from_numpy(noise(2, 8, 6, 3))
    assert resize(images, (8, 6)) is images


def test_resize_averages_when_it_halves():
    images = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    images[:, :, ::2] = 200
    middle = resize(images, (4, 4))[:, 1:3, 1:3]
    assert middle.dtype == torch.uint8
    assert (middle.int() - 100).abs().max() <= 1


def test_resize_keeps_constants_and_orientation():
    images = torch.zeros(1, 10, 20, 3, dtype=torch.uint8)
    images[:, :5, :, 0] = 255
    small = resize(images, (4, 6))
    assert small.shape == (1, 4, 6, 3)
    assert (small[:, 0, :, 0] == 255).all() and (small[:, 3, :, 0] == 0).all() and (small[..., 1:] == 0).all()
