"""Few demonstrations: what a policy gains from encoders that were aligned with captions of scenes before.

    python benchmarks/align.py --out runs/align --hardware H100 --jobs 6 --workers 16

Pick on the tabletop, vocabulary small. The captions come from the simulator's state, of scenes that no evaluation has:
a policy with aligned encoders has seen more pictures, and was told what is in them, but has no demonstration more.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from publish import table
from variants import Options, Study, Trial, Variant, run

from plait.alignment.aligner import AlignConfig
from plait.alignment.pairs import scenes
from plait.encoders.vision import PatchConfig, TimmConfig, Vision
from plait.files import json_text, write_whole
from plait.recipes import RECIPES
from plait.train import aligned
from plait.train.align import TRAIN, align, divided
from plait.train.align_metrics import measure

ENCODERS: dict[str, Vision] = {
    "patch": PatchConfig(),
    "ResNet-18 to stride 8": TimmConfig("resnet18", scales=(-3,)),  # from scratch; the fusion has the rest
}
RECIPE = RECIPES["tabletop-pick"]()
TRIALS = {
    "seen pairs": Trial(),
    "another object named": Trial(instructions="exchanged"),
    "unseen pairs": Trial({"combinations": "unseen"}),
}
TESTED = 500  # pictures, of each kind of scene, that the alignment is tested with


@dataclass(frozen=True)
class Aligning(Options):
    """Where and how much, and how the encoders are aligned."""

    scenes: int = 20_000
    """Scenes with captions, a tenth of which is held out."""
    align_steps: int = 6_000
    """Updates of each alignment, of 256 pairs."""


@dataclass(frozen=True)
class FewDemonstrations(Aligning):
    """And how the policies are trained."""

    demos: tuple[int, ...] = (100, 200, 400)
    """Demonstrations."""
    steps: int = RECIPE.train.steps
    """Updates of each policy."""


def main(options: FewDemonstrations) -> None:
    folders = {name: options.out / f"aligned-{name.split()[0].lower()}" for name in ENCODERS}
    found = {name: encoders(ENCODERS[name], {}, options, folder) for name, folder in folders.items()}
    run(Study("align", "Aligned encoders", _about(options, found), dict(_variants(options, folders)), TRIALS), options)


def encoders(vision: Vision, env_args: dict[str, Any], options: Aligning, folder: Path) -> dict[str, dict[str, Any]]:
    """Align them on an environment's scenes, unless that is done.

    Returns:
        what they reach on held-out scenes, and on those with a pair never seen together.
    """
    done = folder / "align.json"
    if options.train and not done.exists():
        config = AlignConfig(RECIPE.policy.image_size, vision, RECIPE.policy.language)
        train = replace(TRAIN, steps=options.align_steps)
        pairs = scenes("tabletop", env_args, options.scenes, config.image_size)
        align(config, train, pairs, folder, {"scenes": options.scenes})
        model, kept = aligned.load(folder), divided(pairs, train.val_fraction)[1]
        tested = min(TESTED, len(kept))
        unseen = scenes("tabletop", {**env_args, "combinations": "unseen"}, tested, config.image_size)
        found = {"held out": measure(model, kept.some(np.arange(tested))), "unseen pairs": measure(model, unseen)}
        write_whole(done, json_text(found))
    return json.loads(done.read_text())


def _variants(options: FewDemonstrations, folders: dict[str, Path]) -> Iterator[tuple[str, Variant]]:
    for name, vision in ENCODERS.items():
        policy, train = replace(RECIPE.policy, vision=vision), replace(RECIPE.train, steps=options.steps)
        for demos in options.demos:
            variant = Variant(replace(RECIPE, policy=policy, train=train), demos)
            yield f"{name}, {demos}", variant
            yield f"{name}, {demos}, aligned", replace(variant, init=folders[name])


def _about(options: FewDemonstrations, found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """How the encoders were aligned, and how well."""
    shares = *(f"{way}_r{k}" for way in ("vision_to_text", "text_to_vision") for k in (1, 5, 10)), "chance_r1"
    rows = [
        (
            f"{name}, {part}",
            *(f"{100 * numbers[share]:.1f}" for share in shares),
            f"{numbers['pc_placed']:.1f} [{numbers['pc_placed_ci95'][0]:.0f}, {numbers['pc_placed_ci95'][1]:.0f}]",
            numbers["pictures"],
        )
        for name, parts in found.items()
        for part, numbers in parts.items()
    ]
    ways = [f"{way} R@{k}" for way in ("to text", "to picture") for k in (1, 5, 10)]
    return (
        f"Pick, vocabulary small, 64 pixels, {options.steps:,} updates of {RECIPE.train.batch_size}. Each row names "
        "the vision encoder and the demonstrations. *Aligned*: the encoders start from `plait align` on "
        f"{options.scenes:,} scenes with captions ({options.align_steps:,} updates, InfoNCE, one training for all "
        "seeds); everything else is as in the row before. The alignments, in percent; *place*: the object asked for "
        "gets its own place among the scene's four, of which guessing finds 25:\n\n"
        + table(("", *ways, "R@1 of guessing", "place", "pictures"), rows)
    )


if __name__ == "__main__":
    main(tyro.cli(FewDemonstrations))
