"""Ranks against a reading of the definition, one query at a time; ties and several right answers."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from plait.alignment import retrieval as module
from plait.alignment.metrics import compute_alignment_metrics
from plait.alignment.retrieval import ranks, retrieval
from plait.alignment.right import Right


def unit(n: int, width: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def place(similarity: list[float], right: list[bool], numbers: list[int]) -> float:
    best = max(s for s, r in zip(similarity, right, strict=True) if r)
    every = list(zip(similarity, right, numbers, strict=True))
    wrong = [max(s for s, _, other in every if other == own) for own in {own for _, r, own in every if not r}]
    return 1 + sum(s > best for s in wrong) + sum(s == best for s in wrong) / 2


@pytest.mark.parametrize("groups", [list(range(23)), [i % 5 for i in range(23)], [0] * 23], ids=["own", "five", "one"])
def test_ranks_are_places(groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 10)
    queries, answers = unit(23, 4), unit(23, 4, seed=1)
    similarities = (queries @ answers.T).tolist()
    right = Right.grouped(groups, 23)
    for numbers, given in ((list(range(23)), None), (groups, right.texts)):
        expected = [
            place(row, [g == own for g in groups], numbers) for row, own in zip(similarities, groups, strict=True)
        ]
        assert ranks(queries, answers, right.tile, given).tolist() == expected


def test_any_text_that_is_true_of_a_picture_is_found_and_each_text_looks_for_its_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three pictures, seven texts, one of them true of two pictures; the first picture's other text lies nearest."""
    monkeypatch.setattr(module, "CHUNK", 2)
    vision = torch.eye(3, dtype=torch.float64)
    text = normalize(
        torch.tensor([[0, 1.0, 0], [9, 1, 0], [1, 9, 9], [0, 0, 1], [0, 8, 9], [1, 0, 9], [0, 5, 9]]).double(), dim=1
    )
    right = Right.told(list("abcdefg"), [["a", "b"], ["c", "g"], ["c", "d", "e", "f"]])
    found = dict(retrieval(vision, text, right))
    assert right.tile().int().tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1, 0]]
    assert found["vision_to_text_r1"] == pytest.approx(2 / 3), "b, not a; d; but a comes before c and g"
    assert found["text_to_vision_r1"] == pytest.approx(5 / 7), "c finds one of its two; a and g find others'"
    assert (found["vision_to_text_median_rank"], found["text_to_vision_r5"]) == (1, 1)
    assert found["retrieval_acc"] == pytest.approx((2 / 3 + 5 / 7) / 2)


def test_both_ways_are_measured() -> None:
    """Every image's nearest text is its own, but two texts have another's image nearer."""
    vision = torch.eye(3, dtype=torch.float64)
    text = normalize(torch.tensor([[3.0, 0, 0], [3, 2, 0], [3, 0, 2]], dtype=torch.float64), dim=1)
    found = dict(retrieval(vision, text, Right.grouped(None, 3)))
    assert found["vision_to_text_r1"] == 1 and found["text_to_vision_r1"] == pytest.approx(1 / 3)
    assert found["vision_to_text_median_rank"] == 1 and found["text_to_vision_median_rank"] == 2
    assert found["text_to_vision_r5"] == found["text_to_vision_r10"] == 1
    assert compute_alignment_metrics(vision, text)["retrieval_acc"] == pytest.approx(2 / 3)


def test_the_first_k_are_counted() -> None:
    """Query i has i answers that are more similar than its own."""
    angles = torch.arange(20, dtype=torch.float64) / 100
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    queries = circle[:1].repeat(20, 1)
    found = dict(retrieval(queries, circle, Right.grouped(None, 20)))
    assert [found[f"vision_to_text_r{k}"] for k in (1, 5, 10)] == [0.05, 0.25, 0.5]
    assert found["vision_to_text_median_rank"] == 10.5


@pytest.mark.parametrize(
    "groups", [["red ball", "red ball", "blue cube", "blue cube"], torch.tensor([7, 7, -1, -1])], ids=["texts", "ids"]
)
def test_duplicate_captions_are_right_answers(groups: list[str] | Tensor) -> None:
    vision = normalize(torch.tensor([[1.0, 0.1], [1, 0.0], [0, 1.0], [0.1, 1]]), dim=1)
    text = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    own = compute_alignment_metrics(vision, text)
    assert own["retrieval_acc"] == 0.25 and own["vision_to_text_median_rank"] == 1.5, "each text stands there twice"
    every = compute_alignment_metrics(vision, text, groups)
    assert every["retrieval_acc"] == every["text_to_vision_r1"] == every["vision_to_text_median_rank"] == 1


@pytest.mark.parametrize("copies", [1, 12])
@pytest.mark.parametrize("spread", [0.0, 1e-3], ids=["equal", "as after a fusion"])
def test_copies_of_a_wrong_text_take_one_place(copies: int, spread: float) -> None:
    """Each of three texts stands there many times. Each picture is closest to the next one's text, then to its own."""
    text = torch.eye(3, 9, dtype=torch.float64).repeat_interleave(copies, dim=0)
    vision = normalize(text + 1.1 * text.roll(copies, dims=0), dim=1)
    texts = normalize(text + spread * unit(3 * copies, 9), dim=1)
    found = dict(retrieval(vision, texts, Right.grouped([i // copies for i in range(3 * copies)], 3 * copies)))
    assert (found["vision_to_text_r1"], found["vision_to_text_r5"], found["vision_to_text_median_rank"]) == (0, 1, 2)
    assert found["text_to_vision_median_rank"] == 1 + copies, "pictures are all different, and each takes a place"


def test_embeddings_that_are_all_the_same_find_nothing() -> None:
    same = unit(1, 5).repeat(40, 1)
    found = dict(retrieval(same, same, Right.grouped(None, 40)))
    assert found["vision_to_text_r10"] == 0 and found["vision_to_text_median_rank"] == 20.5


def test_every_pair_needs_its_group() -> None:
    with pytest.raises(ValueError, match="groups: 2 values for 3 pairs; give one for each pair"):
        compute_alignment_metrics(unit(3, 2), unit(3, 2), ["a", "b"])
