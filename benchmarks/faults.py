"""What does the diagnosis say of policies whose data had a fault?

python benchmarks/faults.py --out runs/faults --hardware "2 CPU cores"

One policy for each fault: the quickstart's recipe on the same demonstrations, of which one thing is made useless
while training. The diagnosis knows nothing of that.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from altered import Change, train
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.config import to_dict
from plait.data.lerobot import Dataset
from plait.diagnose.report import diagnose
from plait.diagnose.subject import Subject
from plait.nn.device import pick_device
from plait.processes import processors
from plait.recipes import RECIPES
from plait.record.recorder import record
from plait.types import Batch

ENV_ARGS = {"family": "pick"}
QUESTIONS = ("works", "listens", "modalities")


def none(batch: Batch) -> Batch:
    return batch


def words_of_another_demonstration(batch: Batch) -> Batch:
    words, mask = (tensor.roll(1, 0) for tensor in (batch.inputs.words, batch.inputs.word_mask))
    return replace(batch, inputs=replace(batch.inputs, words=words, word_mask=mask))


def black_wrist_camera(batch: Batch) -> Batch:
    images = batch.inputs.images
    return replace(batch, inputs=replace(batch.inputs, images=images | {"wrist": torch.zeros_like(images["wrist"])}))


def state_alone(batch: Batch) -> Batch:
    """Pictures and words are those of another demonstration, together."""
    images = {camera: pictures.roll(1, 0) for camera, pictures in batch.inputs.images.items()}
    batch = words_of_another_demonstration(batch)
    return replace(batch, inputs=replace(batch.inputs, images=images))


FAULTS: dict[str, Change] = {
    "no fault": none,
    "the words of another demonstration": words_of_another_demonstration,
    "a black wrist camera": black_wrist_camera,
    "pictures and words of another demonstration, so that only the state tells anything": state_alone,
}


def main(
    out: Path,
    hardware: str,
    demonstrations: int = 1500,
    steps: int | None = None,
    episodes: int = 100,
    workers: int | None = None,
    report: Path = RESULTS,
) -> None:
    """Train what is missing, ask what was not asked, print the table and write it.

    Args:
        out: folder of the dataset, the runs and the reports; what is finished there is taken as it is.
        hardware: as it shall stand in the file's name.
        demonstrations: that each policy is trained on.
        steps: of each training; the recipe's number when omitted.
        episodes: of each evaluation.
        workers: processes that simulate; one per processor when omitted.
        report: folder of the results file.
    """
    record("tabletop", out / "dataset", demonstrations, ENV_ARGS, workers or processors(), cache=True)
    data, recipe = Dataset.open(out / "dataset"), RECIPES["tabletop-pick"]()
    recipe = replace(recipe, train=replace(recipe.train, steps=steps or recipe.train.steps))
    found: dict[str, dict[str, Any]] = {}
    for fault, change in FAULTS.items():
        run = out / "runs" / change.__name__
        train(data, recipe, run, change)
        policy = checkpoint.load(run).to(pick_device("auto"))
        subject = Subject(policy, "tabletop", ENV_ARGS, episodes=episodes, workers=workers, run=run)
        answers = dict(diagnose(subject, out / "reports" / change.__name__, QUESTIONS))
        found[fault] = {name: {"verdict": told.verdict, "numbers": told.numbers} for name, told in answers.items()}
    header = ("trained with", "does it work?", "does it listen?", "which modality does it use?")
    shown = table(header, ((fault, *(told["verdict"] for told in row.values())) for fault, row in found.items()))
    print(shown)
    about = (
        f"{demonstrations:,} demonstrations of pick, {recipe.train.steps:,} updates, recipe `tabletop-pick`, training "
        f"seed {recipe.train.seed}; {episodes} scenes for each evaluation."
    )
    described = {"policy": to_dict(recipe.policy), "train": to_dict(recipe.train), "results": found}
    publish("faults", "Policies whose data had a fault", hardware, f"{about}\n\n{shown}", described, report)


if __name__ == "__main__":
    tyro.cli(main)
