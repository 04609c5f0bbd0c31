"""What a policy reaches that is never told anything: trained like the quickstart's, with every instruction absent.

python benchmarks/blind.py --dataset quickstart/dataset --out runs/blind --hardware "2 CPU cores"
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from altered import train
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.config import to_dict
from plait.data.lerobot import Dataset
from plait.evaluate.rollout import WHOLE, evaluate
from plait.files import read_json
from plait.nn.device import has_bfloat16, pick_device
from plait.recipes import RECIPES
from plait.spec import INSTRUCTION
from plait.types import Batch

HEADER = ("policy", "success", "95 % interval", "scenes")
READING = """\
Chance is 25 % for a policy that picks one of the four objects; regression to the median of four ways often picks
none."""


def silent(batch: Batch) -> Batch:
    """Without its words."""
    present = batch.inputs.present | {INSTRUCTION: torch.zeros(len(batch), dtype=torch.bool)}
    return replace(batch, inputs=replace(batch.inputs, present=present))


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
    train(data, settings, out, silent)
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
