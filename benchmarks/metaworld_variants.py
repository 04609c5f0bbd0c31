"""What each ingredient of the Meta-World recipe buys, tier by tier.

    python benchmarks/metaworld_variants.py --out runs/variants --hardware H100 --seeds 1 --episodes 500 --workers 16

The scenes are those of evaluation seed 100, on which the recipe was chosen (and on 300: ``--scenes 1`` and 3 of
`metaworld_mt50.py`, training seed 0); `metaworld_mt50.py` reports others.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from metaworld_mt50 import SHOWN
from metaworld_mt50 import Options as Reported
from variants import Options, Study, Trial, Variant, run

from plait.encoders.vision import PatchConfig
from plait.envs.metaworld.tasks import TIERS
from plait.heads import RegressionConfig
from plait.heads.keyframe import KeyframeConfig
from plait.recipes import RECIPES, Recipe
from plait.record.demonstration import DemonstrationConfig
from plait.spec import INSTRUCTION

BASE = RECIPES["metaworld-mt50"]()
SCENES = Reported(Path("runs"), hardware="").env_args  # as the recipe draws them; smaller pictures are made from these
SEED = 100  # of the evaluations
FUSION: Any = BASE.policy.fusion
HEAD: Any = BASE.policy.head


def variant(train: dict[str, Any] | None = None, shown: DemonstrationConfig = SHOWN, **policy: Any) -> Variant:
    """The recipe with some fields changed."""
    recipe = Recipe(replace(BASE.policy, **policy), replace(BASE.train, **(train or {})))
    return Variant(recipe, 2500, SCENES, "metaworld", shown)


def of_tier(tier: str, row: dict[str, Any]) -> bool:
    return row["tier"] == tier


VARIANTS = {
    "as the recipe": variant(),
    "regression head": variant(head=RegressionConfig(hidden=1024, layers=2)),
    "demonstrations without slips": variant(shown=replace(SHOWN, slips=0.0)),
    "demonstrations without pushes": variant(shown=replace(SHOWN, pushes=0.0)),
    "one try a scene": variant(shown=replace(SHOWN, tries=1)),
    "noise saved with the policy": variant(head=replace(HEAD, drawn=False, temperature=1.0)),
    "no shift of the pictures": variant(train={"augment": replace(BASE.train.augment, shift=0)}),
    "twice the shift": variant(train={"augment": replace(BASE.train.augment, shift=8)}),
    "128 pixels": variant(image_size=128, fusion=replace(FUSION, cells=8)),
    "coarse patches, wider": variant(
        vision=PatchConfig(patch=16, stride=8, width=96), fusion=replace(FUSION, stages=(96, 192, 384))
    ),
    "keyframe head": variant(keyframe=KeyframeConfig()),
    "words alone in the condition": variant(fusion=replace(FUSION, conditions=(INSTRUCTION,))),
    "half the updates": variant(train={"steps": BASE.train.steps // 2}),
}
STUDY = Study(
    "metaworld_variants",
    "Meta-World, ingredients",
    f"MT50, 50 demonstrations for each task, {BASE.train.steps:,} updates of {BASE.train.batch_size} samples.",
    VARIANTS,
    {
        **{tier.replace("_", " "): Trial(among=partial(of_tier, tier), changes={"seed": SEED}) for tier in TIERS},
        "all episodes": Trial(changes={"seed": SEED}),
        **{f"all, execute {n}": Trial(changes={"seed": SEED, "execute": n}) for n in (2, 8, 16)},
    },
)

if __name__ == "__main__":
    run(STUDY, tyro.cli(Options))
