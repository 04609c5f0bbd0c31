from dataclasses import replace

import pytest
import torch

from plait.fusion import MultiscaleConfig
from plait.types import Shape, Tokens
from policies import random_observation, small_policy

WORDS = {"instruction": Shape(4, 6)}


def _random(shapes: dict[str, Shape]) -> dict[str, Tokens]:
    torch.manual_seed(0)
    return {n: Tokens(torch.randn(2, s.n, s.dim), torch.ones(2, s.n).bool(), s.grid) for n, s in shapes.items()}


def test_one_grid_becomes_a_pyramid_and_every_level_is_read() -> None:
    policy = small_policy(image_size=64, fusion=MultiscaleConfig(levels=3, width=32))
    fused = policy.fuse(policy.prepare(random_observation())).tokens
    assert fused.data.shape == (3, 2 * 3 + 2, 32)
    front = policy.fusion.cameras["images_front"]
    assert [readout.layers[-1].in_features // 32 for readout in front.readouts] == [8 * 8, 8 * 8, 4 * 4]


def test_the_encoders_own_levels_are_taken_finest_first() -> None:
    shapes = {"images.a": Shape(4, 9, (2, 2)), "images.a@1": Shape(64, 5, (8, 8)), "images.b": Shape(9, 3, (3, 3))}
    fusion = MultiscaleConfig(levels=2, width=32).build(shapes | WORDS).eval()
    assert fusion.levels == {"images.a": ["images.a@1", "images.a"], "images.b": ["images.b"]}
    assert not fusion.cameras["images_a"].up, "nothing is built where the encoder gives several grids"
    tokens = fusion(_random(shapes | WORDS)).tokens.data
    assert tokens.shape == (2, 2 + 2 + 1, 32) and fusion.shape.n == 5


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_words_modulate_every_level(level: int) -> None:
    policy = small_policy(fusion=MultiscaleConfig())
    observation = random_observation(rows=1)
    red, green = (
        policy.fuse(policy.prepare(replace(observation, instruction=[text]))).tokens.data
        for text in ("pick up the red ball", "put the green cube in the bowl")
    )
    assert (red - green)[:, [level, 3 + level]].abs().max() > 1e-3


def test_context_reaches_the_finest_level() -> None:
    shapes = {"images.a": Shape(4, 9, (2, 2)), "images.a@1": Shape(64, 5, (8, 8))} | WORDS
    fusion, groups = MultiscaleConfig().build(shapes).eval(), _random(shapes)
    coarse = groups["images.a"]
    changed = groups | {"images.a": replace(coarse, data=coarse.data + 1)}
    assert (fusion(groups).tokens.data - fusion(changed).tokens.data)[:, 0].abs().max() > 1e-3
