import pytest
import torch

from plait.diagnose.pointing import magnified, pointing
from plait.diagnose.scenes import Truth


def scenes() -> Truth:
    """Two scenes of 8 x 8 pixels: the named object fills a quarter and an eighth, another one an eighth of both."""
    named, others = torch.zeros(2, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8, dtype=torch.bool)
    named[0, :4, :4] = named[1, :4, :2] = True
    others[:, 4:, 6:] = True
    return Truth({"front": named}, {"front": others})


def test_a_map_that_is_the_mask_points_at_nothing_else() -> None:
    score = pointing({"front": scenes().named["front"].float()}, scenes())["front"]
    assert (score["n"], score["hit"], score["distracted"]) == (2, 100.0, 0.0)
    assert score["gain"] == pytest.approx(2 / (1 / 4 + 1 / 8), abs=1e-3) and score["gain_distractors"] == 0.0


@pytest.mark.parametrize("grid", [(8, 8), (3, 5)])
def test_an_even_map_scores_as_the_objects_cover_the_picture(grid: tuple[int, int]) -> None:
    score = pointing({"front": torch.full((2, *grid), 0.3)}, scenes())["front"]
    assert score["hit"] == score["chance"] == pytest.approx(100 * 3 / 16, abs=0.01)
    assert score["distracted"] == score["chance_distracted"] == pytest.approx(100 / 8, abs=0.01)
    assert score["gain"] == score["gain_distractors"] == pytest.approx(1.0, abs=1e-3)


def test_another_object_distracts() -> None:
    maps = torch.zeros(2, 4, 4)
    maps[0, 3, 3] = maps[1, 0, 0] = 1.0
    score = pointing({"front": maps}, scenes())["front"]
    assert (score["hit"], score["distracted"]) == (50.0, 50.0)
    low, high = score["hit_ci95"]
    assert 0 < low < 50 < high < 100


def test_only_scenes_that_show_the_object_count() -> None:
    truth = scenes()
    truth.named["front"][1] = False
    assert pointing({"front": torch.rand(2, 4, 4)}, truth)["front"]["n"] == 1
    truth.named["front"][0] = False
    assert pointing({"front": torch.rand(2, 4, 4)}, truth) == {"front": {"n": 0}}


def test_cameras_may_differ_in_size() -> None:
    truth = scenes()
    truth.named["wrist"], truth.others["wrist"] = torch.ones(2, 6, 4, dtype=torch.bool), torch.zeros(2, 6, 4) > 0
    found = pointing({"front": torch.rand(2, 4, 4), "wrist": torch.rand(2, 3, 3)}, truth)
    assert found["wrist"]["hit"] == 100.0 and found["wrist"]["gain"] == 1.0


def test_a_map_keeps_its_shape_when_it_is_magnified() -> None:
    heat = torch.rand(1, 4, 4)
    assert torch.equal(magnified(heat, (4, 4)), heat)
    assert magnified(heat, (64, 32)).shape == (1, 64, 32)
