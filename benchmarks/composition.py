"""Words known, their pair never seen: what zero-shot composition needs, and what each ingredient buys.

    python benchmarks/composition.py --out runs/composition --hardware H100 --jobs 6 --workers 16

Colours and shapes are all trained, 8 of the 40 pairs are held out (tabletop, family pick, vocabulary large). *Absent*:
a held-out pair is in no scene of the training. *Distractor only*: it lies there, but is never named. In a trial
"unseen" the held-out pair is what is named; every episode counts, and the object that is held must be that one.
"""

from dataclasses import replace
from typing import Any

import tyro
from variants import Options, Study, Trial, Variant, run

from plait.data.augment import Augment
from plait.encoders.language import TextTransformerConfig
from plait.fusion import FilmConfig
from plait.heads.keyframe import KeyframeConfig
from plait.policy import PolicyConfig
from plait.recipes import RECIPES, Recipe
from plait.spec import INSTRUCTION, STATE

DEMONSTRATIONS = 3200
LARGE = {"vocabulary": "large"}
RECIPE = RECIPES["tabletop-pick"]()
BASE = replace(RECIPE, policy=replace(RECIPE.policy, keyframe=KeyframeConfig()))  # what each row changes


def variant(
    demonstrations: int = DEMONSTRATIONS,
    scenes: dict[str, Any] = LARGE,
    train: dict[str, Any] | None = None,
    **policy: Any,
) -> Variant:
    """The base with some fields changed."""
    numbers = {"steps": 4000, "batch_size": 512, "learning_rate": 3e-3, "warmup_steps": 200, **(train or {})}
    changed: PolicyConfig = replace(BASE.policy, **policy)
    return Variant(Recipe(changed, replace(BASE.train, **numbers)), demonstrations, scenes)


VARIANTS = {
    "base": variant(),
    "state in FiLM's condition too": variant(fusion=FilmConfig(conditions=(INSTRUCTION, STATE))),
    "no keyframe head": variant(keyframe=None),
    "no keyframe head, state in the condition": variant(
        keyframe=None, fusion=FilmConfig(conditions=(INSTRUCTION, STATE))
    ),
    "no augmentation": variant(train={"augment": Augment(0, 0.0, 0.0, 0.0)}),
    "colour augmentation": variant(train={"augment": Augment(2, 0.1, 0.1, 0.1)}),
    "a quarter of the demonstrations": variant(DEMONSTRATIONS // 4),
    "a quarter of the updates": variant(train={"steps": 1000}),
    "words by a transformer": variant(language=TextTransformerConfig(), train={"learning_rate": 1e-3}),
    "15 of 18 pairs instead of 32 of 40": variant(scenes={"vocabulary": "medium"}),
    "9 of 12 pairs": variant(scenes={"vocabulary": "small"}),
    "distractor only": variant(scenes={**LARGE, "combinations": "distractor"}),
}
STUDY = Study(
    "composition",
    "Zero-shot composition",
    f"Pick, 64 pixels, {DEMONSTRATIONS:,} demonstrations, 4,000 updates of 512 samples; each row changes one thing. "
    "Other fusions: see the comparison.",
    VARIANTS,
    {"seen pairs": Trial({"combinations": "seen"}), "unseen pairs": Trial({"combinations": "unseen"})},
)

if __name__ == "__main__":
    run(STUDY, tyro.cli(Options))
