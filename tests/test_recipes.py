"""Every recipe is complete, builds, and survives JSON."""

import json

import pytest

from plait.config import from_dict, to_dict
from plait.encoders.tokenizer import Tokenizer
from plait.recipes import RECIPES, Recipe
from policies import SENTENCES, SPEC, random_batch


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_and_has_a_loss(name: str) -> None:
    recipe = RECIPES[name]()
    policy = recipe.policy.build(SPEC, Tokenizer.build(SENTENCES))
    assert policy.loss(random_batch(policy))["loss"].isfinite()
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert RECIPES[name].__doc__, "plait list recipes shows it"


def test_the_quickstart_recipe_is_small() -> None:
    recipe = RECIPES["tabletop-pick"]()
    policy = recipe.policy.build(SPEC, Tokenizer.build(SENTENCES))
    assert recipe.policy.image_size == 64
    assert sum(parameter.numel() for parameter in policy.parameters()) < 3_000_000
