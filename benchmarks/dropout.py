"""What hiding modalities in training costs when nothing fails, and what it keeps when a camera does.

    python benchmarks/dropout.py --out runs/dropout --hardware "4 H100" --jobs 16 --workers 3

Pick on the tabletop, vocabulary small. Trainings with the same seed differ in nothing but what their row says; all meet
the same scenes. A camera turns black after 2, 6 or 12 control steps, for 5, 15 or all of the rest, and the safety
envelope has the policy go on without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro
from variants import Options, Row, Study, Trial, Variant, run

from plait.config import to_dict
from plait.evaluate.failures import DURATIONS, MOMENTS, Failure, evaluate_failures
from plait.heads import RegressionConfig
from plait.heads.regression import LossName
from plait.policy import Policy
from plait.recipes import RECIPES
from plait.safety.calibrate import calibrate
from plait.spec import INSTRUCTION, STATE, camera_modality

RECIPE, QUICK = RECIPES["tabletop-robust"](), RECIPES["tabletop-pick"]().train.steps
SCENES = {"vocabulary": "small"}
BLACK = {camera: Failure("black", camera_modality(camera)) for camera in ("wrist", "front")}
EACH = len(MOMENTS) * len(DURATIONS)  # scenes, for every moment with every duration
ABOUT = (
    "Pick, vocabulary small, 64 pixels, batches of 128. Each row names the loss, what FiLM's condition is, the updates "
    "(1,000 with 1,500 demonstrations, as the quickstart; more with 3,000) and the share of the samples in which each "
    "camera, and the state, is hidden. *Clean*: nothing fails; choices were made with the first of the two sets of "
    "scenes. *Black*: that camera fails on the way, with the safety envelope; of the scenes that end in success when "
    "nothing fails, those that still do. Where nothing is hidden in training, the robot holds instead."
)


@dataclass(frozen=True)
class Hiding(Options):
    """Where and how much."""

    seeds: int = 4
    episodes: int = 400


def main(options: Hiding) -> None:
    trials = {f"clean, seed={scenes}": Trial(changes={"seed": scenes}) for scenes in (1, 5)}
    for camera, failure in BLACK.items():
        trials[f"{camera} camera black"] = Trial(among=partial(_counts, failure), play=play)
    run(Study("dropout", "Modality dropout", ABOUT, dict(_variants()), trials), options)


def _variants() -> Iterator[tuple[str, Variant]]:
    losses: tuple[LossName, ...] = ("l1", "huber")
    for updates in (QUICK, RECIPE.train.steps):
        for loss in losses:
            for condition in ((INSTRUCTION,), (INSTRUCTION, STATE)):
                for share in (0.0, 0.05, 0.1) if updates == QUICK else (0.0, 0.1, 0.2, 0.3):
                    train = replace(RECIPE.train, steps=updates, modality_dropout=share)
                    fusion = replace(RECIPE.policy.fusion, conditions=condition)
                    policy = replace(RECIPE.policy, fusion=fusion, head=RegressionConfig(loss=loss))
                    demonstrations = 1500 if updates == QUICK else 3000
                    variant = Variant(replace(RECIPE, policy=policy, train=train), demonstrations, SCENES)
                    yield f"{loss}, {' and '.join(condition)}, {updates}, {100 * share:.0f} %", variant


def play(policy: Policy, variant: Variant, dataset: Path, episodes: int, workers: int) -> Row:
    """Each camera fails, in about half as many scenes. How strange the features are is not looked at."""
    trained = {"train": to_dict(variant.recipe.train)}
    known = replace(calibrate(policy, dataset, false_alarms=0.05, provenance=trained, episodes=100), scores={})
    found = evaluate_failures(
        policy,
        variant.env,
        variant.scenes,
        calibration=known,
        chosen=list(BLACK.values()),
        enveloped=[True],
        episodes=EACH * max(1, episodes // (2 * EACH)),
        seed=1,
        workers=workers,
    )
    clean = {row["scene"]: row["success"] for row in found["per_episode"] if row["kind"] == "none"}
    return {**found, "per_episode": [{**row, "clean": clean[row["scene"]]} for row in found["per_episode"]]}


def _counts(failure: Failure, row: Row) -> bool:
    """This is what fails, it does before the episode ends, and without it the episode is a success."""
    return row["modality"] == failure.modality and row["hit"] and row["clean"]


if __name__ == "__main__":
    main(tyro.cli(Hiding))
