"""From a dataset to a trained policy."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from plait.recipes import RECIPES
from plait.train.policy import train

DATASET = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_images"


def test_a_batch_that_is_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    recipe, dataset = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d")
    config = replace(recipe.train, batch_size=22)  # an episode of 15 is held out of 36 frames
    with pytest.raises(ValueError, match=r"train\.batch_size = 22: it must be at most .* here 21; say --train\.batch"):
        train(replace(recipe.policy, image_size=16), config, dataset, tmp_path / "run")
