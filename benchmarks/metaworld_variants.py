"""What each ingredient of the Meta-World recipe buys, tier by tier.

    python benchmarks/metaworld_variants.py --out runs/variants --hardware H100 --seeds 1 --episodes 500 --workers 16

The scenes are those of evaluation seed 0, on which the recipe was chosen; `metaworld_mt50.py` reports others.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import tyro
from variants import Options, Study, Trial, Variant, run

from plait.encoders.vision import PatchConfig
from plait.envs.metaworld.tasks import TIERS
from plait.fusion import FilmConfig
from plait.heads import FlowConfig
from plait.heads.keyframe import KeyframeConfig
from plait.recipes import RECIPES, Recipe
from plait.spec import INSTRUCTION, STATE

BASE = RECIPES["metaworld-mt50"]()
RECORDED = 224  # pixels; smaller pictures are made from these
COARSE = {"image_size": 224, "vision": PatchConfig(patch=16, stride=8, width=96)}  # as many tokens as 112 pixels


def variant(train: dict[str, Any] | None = None, **policy: Any) -> Variant:
    """The recipe with some fields changed."""
    recipe = Recipe(replace(BASE.policy, **policy), replace(BASE.train, **(train or {})))
    return Variant(recipe, 2500, {"size": RECORDED}, "metaworld")


def film(**changes: Any) -> FilmConfig:
    return replace(FilmConfig(conditions=(INSTRUCTION, STATE), stages=(64, 128, 256), depth=2, width=512), **changes)


def of_tier(tier: str, row: dict[str, Any]) -> bool:
    return row["tier"] == tier


VARIANTS = {
    "as the recipe": variant(),
    "224 pixels, coarse patches": variant(**COARSE),
    "224 pixels, coarse patches, wider": variant(**COARSE, fusion=film(stages=(96, 192, 384))),
    "224 pixels, coarse patches, flow head": variant(**COARSE, head=FlowConfig(width=256, layers=4)),
    "keyframe head": variant(keyframe=KeyframeConfig()),
    "words alone in the condition": variant(fusion=film(conditions=(INSTRUCTION,))),
    "half the updates": variant(train={"steps": BASE.train.steps // 2}),
}
STUDY = Study(
    "metaworld_variants",
    "Meta-World, ingredients",
    f"MT50, 50 demonstrations for each task, {BASE.train.steps:,} updates of {BASE.train.batch_size} samples.",
    VARIANTS,
    {
        **{tier.replace("_", " "): Trial(among=partial(of_tier, tier)) for tier in TIERS},
        "all episodes": Trial(),
        "all, execute 4": Trial(changes={"execute": 4}),
        "all, execute 16": Trial(changes={"execute": 16}),
        "all, ensemble": Trial(changes={"ensemble": 0.01}),
    },
)

if __name__ == "__main__":
    run(STUDY, tyro.cli(Options))
