import torch

from plait.memory.history import History

NAN = float("nan")


def _numbered(*moments: float) -> torch.Tensor:
    """One row of one-dimensional features."""
    return torch.tensor(moments, dtype=torch.float32)[None, :, None]


def _seen(history: History) -> list[list[float]]:
    """What each moment of row 0 remembers, oldest first."""
    return [vectors[mask].flatten().tolist() for vectors, mask in zip(history.vectors[0], history.mask[0], strict=True)]


def test_it_holds_the_last_k_moments_the_present_included() -> None:
    empty = History.empty(1, 3, torch.zeros(1))
    moments = empty.along(_numbered(1, 2, 3, 4, 5), torch.zeros(1, 5, dtype=torch.bool))
    assert _seen(moments) == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    after = empty.after(_numbered(1, 2, 3, 4, 5), torch.zeros(1, 5, dtype=torch.bool))
    assert after.vectors.flatten().tolist() == [3, 4, 5] and after.mask.all()
    further = after.along(_numbered(6), torch.zeros(1, 1, dtype=torch.bool))
    assert _seen(further) == [[4, 5, 6]]


def test_an_episode_begins_with_nothing() -> None:
    full = History(torch.full((1, 3, 1), 9.0), torch.ones(1, 3, dtype=torch.bool))
    reset = torch.tensor([[False, False, True, False, True]])
    moments = full.along(_numbered(1, 2, 3, 4, 5), reset)
    assert _seen(moments) == [[9, 9, 1], [9, 1, 2], [3], [3, 4], [5]]
    assert full.after(_numbered(1, 2, 3, 4, 5), reset).mask.tolist() == [[False, False, True]]


def test_rows_are_taken_from_one_or_the_other() -> None:
    one, other = History(torch.ones(2, 3, 1), torch.ones(2, 3, dtype=torch.bool)), History.empty(2, 3, torch.zeros(1))
    mixed = one.where(torch.tensor([True, False]), other)
    assert mixed.vectors.sum(dim=(1, 2)).tolist() == [3, 0] and mixed.mask.sum(dim=1).tolist() == [3, 0]


def test_cleaning_takes_out_what_was_not_seen() -> None:
    history = History(torch.tensor([[[NAN], [1.0]]]), torch.tensor([[False, True]]))
    assert history.cleaned().tolist() == [[[0.0], [1.0]]]
