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

from plait.encoders.language import TextTransformerConfig
from plait.fusion import FilmConfig, MultiscaleConfig
from plait.heads import RegressionConfig
from plait.heads.keyframe import KeyframeConfig
from plait.policy import PolicyConfig
from plait.recipes import RECIPES, Recipe
from plait.spec import INSTRUCTION, STATE

DEMONSTRATIONS = 3200
LARGE = {"vocabulary": "large"}
RECIPE = RECIPES["tabletop-pick"]()
BASE = replace(RECIPE, policy=replace(RECIPE.policy, keyframe=None))  # what each row changes
FILM = BASE.policy.fusion
assert isinstance(FILM, FilmConfig)
MULTISCALE = MultiscaleConfig(width=96)  # as large as the base
HUBER = RegressionConfig(loss="huber")


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
    "multiscale fusion": variant(fusion=MULTISCALE),
    "Huber loss": variant(head=HUBER),
    "multiscale fusion, Huber loss": variant(fusion=MULTISCALE, head=HUBER),
    "no modality dropout": variant(train={"modality_dropout": 0.0}),
    "the recipe's keyframe head": variant(keyframe=KeyframeConfig()),
    "state in FiLM's condition too": variant(fusion=replace(FILM, conditions=(INSTRUCTION, STATE))),
    "words by a transformer": variant(language=TextTransformerConfig(), train={"learning_rate": 1e-3}),
    "a quarter of the demonstrations": variant(DEMONSTRATIONS // 4),
    "15 of 18 pairs instead of 32 of 40": variant(scenes={"vocabulary": "medium"}),
    "9 of 12 pairs": variant(scenes={"vocabulary": "small"}),
    "distractor only": variant(scenes=DISTRACTOR),
    "distractor only, multiscale fusion, Huber loss": variant(scenes=DISTRACTOR, fusion=MULTISCALE, head=HUBER),
}


def study(aligned: Path, about: str) -> Study:
    """With encoders that are aligned in that folder, and what is to be said of them."""
    more = {
        "aligned encoders": variant(init=aligned),
        "distractor only, aligned encoders": variant(scenes=DISTRACTOR, init=aligned),
    }
    return Study(
        "composition",
        "Zero-shot composition",
        f"Pick, 64 pixels, {DEMONSTRATIONS:,} demonstrations, 4,000 updates of 512 samples, no keyframe head; each row "
        f"says what it changes. {about}",
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
