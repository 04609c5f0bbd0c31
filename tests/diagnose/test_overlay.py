import numpy as np
import pytest
import torch

from plait.diagnose.overlay import DARK, enlarged, overlaid


def test_bright_where_the_map_is_high_and_dark_elsewhere() -> None:
    picture = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 2], maps[1, 1, 2] = 0.3, 0.03
    lit, faint = overlaid(picture, maps, 16)
    assert faint.max() < 0.4 * lit.max(), "they have one scale"
    assert np.abs(lit[5:7, 9:11].astype(int) - (200, 100, 50)).max() <= 0.25 * 200
    assert (lit[:, :4] == np.round(DARK * np.array([200, 100, 50]))).all()


def test_a_full_map_leaves_the_picture_as_it_is_and_an_empty_one_darkens_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(overlaid(picture, torch.full((1, 2, 2), 0.1), 8)[0], picture)
    assert overlaid(picture, torch.zeros(1, 2, 2), 8)[0].max() <= round(255 * DARK)


@pytest.mark.parametrize("shape", [(30, 40), (40, 30)])
def test_proportions_are_kept(shape: tuple[int, int]) -> None:
    assert enlarged(np.zeros((*shape, 3), np.uint8), 80).shape == (round(80 * shape[0] / shape[1]), 80, 3)
