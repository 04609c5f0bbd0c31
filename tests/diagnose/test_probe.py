import pytest
import torch

from plait.diagnose.probe import probe_label, probe_place

GENERATOR = torch.Generator().manual_seed(0)
NAMES = ["ball", "cube", "disc"]


def test_what_is_there_is_found_in_new_scenes() -> None:
    numbers = torch.randint(3, (120,), generator=GENERATOR)
    x = torch.eye(3)[numbers] @ torch.randn(3, 40, generator=GENERATOR) + 0.1 * torch.randn(
        120, 40, generator=GENERATOR
    )
    found = probe_label(x, [NAMES[number] for number in numbers])
    assert (found["correct"], found["n"]) == (100.0, 60)
    assert found["correct_ci95"][0] > 90 and 20 < found["chance"] < 50
    places = torch.stack([numbers.float(), 2.0 - numbers], dim=1)
    assert probe_place(x, places) > 0.95


def test_noise_tells_nothing_even_with_more_dimensions_than_scenes() -> None:
    x = torch.randn(200, 500, generator=GENERATOR)
    numbers = torch.randint(3, (200,), generator=GENERATOR)
    low, high = probe_label(x, [NAMES[number] for number in numbers])["correct_ci95"]
    assert low < 100 / 3 < high
    assert probe_place(x, torch.rand(200, 2, generator=GENERATOR)) < 0.1


def test_embeddings_that_are_all_the_same_tell_nothing() -> None:
    labels = ["ball"] * 30 + ["cube"] * 10
    found = probe_label(torch.ones(40, 8), labels)
    assert found["correct"] == found["chance"]


def test_too_few_scenes() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        probe_label(torch.ones(3, 2), ["a", "b", "c"])
