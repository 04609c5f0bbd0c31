"""Every recipe is complete, builds, and survives JSON."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from plait.config import from_dict, to_dict
from plait.encoders.tokenizer import Tokenizer
from plait.recipes import RECIPES, Recipe
from plait.train.optim import build_optimizer
from policies import SENTENCES, SPEC, random_batch


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds_and_has_a_loss(name: str) -> None:
    recipe = RECIPES[name]()
    policy = recipe.policy.build(SPEC, Tokenizer.build(SENTENCES), pretrained=False)
    assert policy.loss(random_batch(policy))["loss"].isfinite()
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert RECIPES[name].__doc__, "plait list recipes shows it"


def test_the_quickstart_recipe_is_small() -> None:
    recipe = RECIPES["tabletop-pick"]()
    policy = recipe.policy.build(SPEC, Tokenizer.build(SENTENCES))
    assert recipe.policy.image_size == 64
    assert sum(parameter.numel() for parameter in policy.parameters()) < 3_000_000


def test_the_tutorial_recipe_trains_all_but_its_frozen_backbone() -> None:
    recipe = RECIPES["tutorial"]()
    assert recipe.policy.vision.name == "resnet50" and recipe.policy.vision.weights == "hub"
    small = replace(
        recipe.policy,
        image_size=64,
        vision=replace(recipe.policy.vision, name="resnet10t", weights=""),
        language=replace(recipe.policy.language, width=32),
        fusion=replace(recipe.policy.fusion, dim=32, width=32),
    )
    torch.manual_seed(0)
    policy = small.build(SPEC, Tokenizer.build(SENTENCES)).train()
    assert any(isinstance(module, nn.Dropout) and module.p == 0.1 for module in policy.head.modules())
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.loss(random_batch(policy))["loss"].backward()
    build_optimizer(policy, recipe.train).step()
    same = {name for name, value in policy.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in before if ".backbone." in name} <= same, "batch norm included"
    learned = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert same & learned == {name for name in learned if ".absent." in name}, "nothing was absent"
