"""What a policy reaches that is never told anything: trained like the quickstart's, with every instruction absent.

python benchmarks/blind.py --dataset quickstart/dataset --out runs/blind --hardware "2 CPU cores"
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.config import to_dict
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.encoders.tokenizer import Tokenizer
from plait.evaluate.rollout import WHOLE, evaluate
from plait.files import read_json
from plait.nn.device import has_bfloat16, pick_device
from plait.recipes import RECIPES, Recipe
from plait.spec import INSTRUCTION
from plait.train.loop import Source, fit
from plait.train.run import Run
from plait.types import Batch

HEADER = ("policy", "success", "95 % interval", "scenes")
READING = """\
Chance is 25 % for a policy that picks one of the four objects; regression to the median of four ways often picks
none."""


@dataclass
class WithoutWords:
    """A source whose instructions are all absent."""

    source: Source

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        return map(_silence, self.source.stream(start, stop))

    def validation(self) -> Iterator[Batch]:
        return map(_silence, self.source.validation())


def _silence(batch: Batch) -> Batch:
    present = batch.inputs.present | {INSTRUCTION: torch.zeros(len(batch), dtype=torch.bool)}
    return replace(batch, inputs=replace(batch.inputs, present=present))


def train(data: Dataset, recipe: Recipe, out: Path) -> None:
    torch.manual_seed(recipe.train.seed)
    policy = recipe.policy.build(data.spec, Tokenizer.build(data.tasks), data.statistics())
    size = policy.config.image_size, policy.config.image_size
    loader = Loader(data, policy.prepare, policy.horizon, recipe.train.batch_size, size, augment=recipe.train.augment)
    made_with = {"benchmark": "blind", "policy": to_dict(recipe.policy), "train": to_dict(recipe.train)}
    fit(policy, WithoutWords(loader), recipe.train, Run(out, made_with, checkpoint.save))


def row(policy: str, total: dict[str, Any]) -> list[str]:
    """One line of the table, from what ``eval.json`` has ``aggregated``."""
    interval = "{:.1f} – {:.1f}".format(*total["pc_success_ci95"])
    return [policy, f"{total['pc_success']:.1f} %", interval, str(total["n_episodes"])]


def main(
    dataset: Path,
    out: Path,
    hardware: str = "2 CPU cores",
    recipe: str = "tabletop-pick",
    steps: int | None = None,
    episodes: int = 200,
    told: Path | None = None,
    report: Path = RESULTS,
) -> None:
    """Train and evaluate; prints a table and writes it.

    Args:
        dataset: recorded from the tabletop.
        out: folder of the run.
        hardware: as it shall stand in the file's name.
        recipe: whose numbers are used.
        steps: of training; the recipe's number when omitted.
        episodes: of the evaluation.
        told: eval.json of the policy trained with words, for comparison; that of the quickstart beside the dataset when
            omitted, if there is one.
        report: folder of the results file.
    """
    data, settings = Dataset.open(dataset), RECIPES[recipe]()
    settings = replace(settings, train=replace(settings.train, steps=steps or settings.train.steps))
    train(data, settings, out)
    env_args = data.provenance()["arguments"]["env_args"]
    policy = checkpoint.load(out)
    result = evaluate(policy, "tabletop", env_args, episodes=episodes, instructions="absent", out=out / "eval")
    results = {"never told anything": result["aggregated"]}
    told = told or dataset.parent / "eval" / "normal" / WHOLE
    if told.exists():
        results["the quickstart's, told"] = read_json(told)["aggregated"]
    shown = table(HEADER, [row(*pair) for pair in results.items()])
    print(shown)
    number = "bfloat16" if has_bfloat16(pick_device(settings.train.device)) else "float32"
    about = (
        f"{len(data.episodes):,} demonstrations, {settings.train.steps:,} updates, recipe `{recipe}`, seed "
        f"{settings.train.seed}, {number}; every instruction absent in training and in the evaluation."
    )
    described = {"train": to_dict(settings.train), "policy": to_dict(settings.policy), "protocol": result["protocol"]}
    described["results"] = results
    text = f"{about}\n\n{shown}\n\n{READING}"
    publish("blind", "Trained and tested without words", hardware, text, described, report)


if __name__ == "__main__":
    tyro.cli(main)
