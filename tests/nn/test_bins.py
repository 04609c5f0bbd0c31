import pytest
import torch

from plait.nn.bins import Bins

BINS = Bins(count=256, limit=30.0)


def test_a_number_comes_back_exactly_from_its_shares() -> None:
    numbers = torch.cat([torch.randn(200), 20 * torch.randn(20).clamp(-1.4, 1.4), BINS.centres])
    shares = BINS.shares(numbers)
    assert shares.sum(-1).allclose(torch.ones(())) and (shares > 0).sum(-1).max() <= 2
    torch.testing.assert_close(BINS.value(shares.log()), numbers, atol=2e-4, rtol=1e-5)


def test_near_zero_bins_are_fine_and_a_rare_large_action_has_its_own() -> None:
    width = BINS.centres.diff()
    assert width.min() < 0.035 and 1 < BINS.shares(torch.tensor([25.0])).argmax() < 255
    assert (BINS.value(BINS.shares(torch.tensor([-99.0, 99.0])).log()) == BINS.centres[[0, -1]]).all()


def test_the_value_is_one_of_two_modes_never_between() -> None:
    shares = 0.45 * BINS.shares(torch.tensor(-1.0)) + 0.55 * BINS.shares(torch.tensor(1.0))
    torch.testing.assert_close(BINS.value(shares.log()), torch.tensor(1.0))


def test_the_loss_is_least_at_the_number_itself() -> None:
    number = torch.tensor(0.7)
    right, near, far = (BINS.loss((BINS.shares(torch.tensor(x)) + 1e-6).log(), number) for x in (0.7, 0.71, -0.7))
    assert right < near < far


def test_impossible_bins_are_refused() -> None:
    for count, limit in ((2, 30.0), (256, 0.0)):
        with pytest.raises(ValueError, match=f"bins: {count} up to a limit of {limit:g}"):
            Bins(count, limit)
