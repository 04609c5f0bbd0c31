import pytest
import torch

from plait.diagnose.bootstrap import ratio


def test_the_interval_is_about_that_of_the_normal_distribution() -> None:
    generator = torch.Generator().manual_seed(1)
    above = torch.randn(400, generator=generator) + 5
    value, low, high = ratio(above, torch.ones(400))
    assert value == pytest.approx(above.mean().item(), rel=1e-6)
    half = 1.96 * above.std().item() / 20
    assert low == pytest.approx(value - half, abs=0.02) and high == pytest.approx(value + half, abs=0.02)


def test_pairs_are_drawn_together() -> None:
    below = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.1
    assert ratio(3 * below, below) == pytest.approx((3, 3, 3))


def test_no_scenes_and_nothing_below() -> None:
    with pytest.raises(ValueError, match="no scenes"):
        ratio(torch.zeros(0), torch.zeros(0))
    assert ratio(torch.zeros(3), torch.zeros(3)) == (0.0, 0.0, 0.0)
    assert ratio(torch.ones(3), torch.zeros(3), most=2) == (2.0, 2.0, 2.0)
    assert ratio(torch.ones(3), torch.full((3,), 0.1), least=0.5) == pytest.approx((2.0, 2.0, 2.0))
    assert ratio(-torch.ones(3), -torch.ones(3), least=0.5, most=2)[0] < 0, "two losses are no gain"
