"""Words known, their pair never seen: what zero-shot composition needs, and what each ingredient buys.

    python benchmarks/composition.py --out runs/composition --hardware H100 --jobs 6 --workers 16

Colours and shapes are all trained, 8 of the 40 pairs are held out (tabletop, family pick, vocabulary large). *Absent*:
a held-out pair is in no scene of the training. *Distractor only*: it lies there, but is never named. In a trial
"unseen" the held-out pair is what is named; every episode counts, and the object that is held must be that one.
*Aligned encoders* start from a contrastive training on captions of scenes that have no held-out pair either.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from align import Aligning, encoders
from variants import Study, Trial, Variant, run

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
    init: Path | None = None,
    **policy: Any,
) -> Variant:
    """The base with some fields changed."""
    numbers = {"steps": 4000, "batch_size": 512, "learning_rate": 3e-3, "warmup_steps": 200, **(train or {})}
    changed: PolicyConfig = replace(BASE.policy, **policy)
    return Variant(Recipe(changed, replace(BASE.train, **numbers)), demonstrations, scenes, init=init)


DISTRACTOR = {**LARGE, "combinations": "distractor"}
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
    "distractor only": variant(scenes=DISTRACTOR),
    "distractor only, no keyframe head": variant(scenes=DISTRACTOR, keyframe=None),
}


def study(aligned: Path, about: str) -> Study:
    """With encoders that are aligned in that folder, and what is to be said of them."""
    more = {
        "aligned encoders, no keyframe head": variant(keyframe=None, init=aligned),
        "distractor only, aligned encoders, no keyframe head": variant(scenes=DISTRACTOR, keyframe=None, init=aligned),
    }
    return Study(
        "composition",
        "Zero-shot composition",
        f"Pick, 64 pixels, {DEMONSTRATIONS:,} demonstrations, 4,000 updates of 512 samples; each row changes one thing "
        f"(other fusions: see the comparison). {about}",
        VARIANTS | more,
        {"seen pairs": Trial({"combinations": "seen"}), "unseen pairs": Trial({"combinations": "unseen"})},
    )


def main(options: Aligning) -> None:
    folder = options.out / "aligned"
    found = encoders(BASE.policy.vision, LARGE, options, folder)
    shares = [f"{100 * found[part]['vision_to_text_r1']:.0f} % of {found[part]['pictures']} {part}" for part in found]
    about = f"Aligned on {options.scenes:,} scenes; its first guess at a picture's caption is right for {shares[0]}"
    run(study(folder, f"{about} and {shares[1]}."), options)


if __name__ == "__main__":
    main(tyro.cli(Aligning))
