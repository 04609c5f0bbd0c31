"""What a policy reaches that is never told anything: trained like the quickstart's, with every instruction absent.

python benchmarks/blind.py --dataset quickstart/dataset --out runs/blind
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from plait import checkpoint
from plait.config import to_dict
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.encoders.tokenizer import Tokenizer
from plait.evaluate.rollout import evaluate
from plait.recipes import RECIPES
from plait.spec import INSTRUCTION
from plait.train.loop import Source, fit
from plait.train.run import Run
from plait.types import Batch


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


def main(dataset: Path, out: Path, recipe: str = "tabletop-pick", episodes: int = 200) -> None:
    """Train and evaluate; prints one line.

    Args:
        dataset: recorded from the tabletop.
        out: folder of the run.
        recipe: whose numbers are used.
        episodes: of the evaluation.
    """
    data, settings = Dataset.open(dataset), RECIPES[recipe]()
    torch.manual_seed(settings.train.seed)
    policy = settings.policy.build(data.spec, Tokenizer.build(data.tasks), data.statistics())
    size = (policy.config.image_size,) * 2
    loader = Loader(
        data, policy.prepare, policy.horizon, settings.train.batch_size, size, augment=settings.train.augment
    )
    made_with = {"benchmark": "blind", "policy": to_dict(settings.policy), "train": to_dict(settings.train)}
    fit(policy, WithoutWords(loader), settings.train, Run(out, made_with, checkpoint.save))
    env_args = data.provenance()["arguments"]["env_args"]
    result = evaluate(
        checkpoint.load(out), "tabletop", env_args, episodes=episodes, instructions="absent", out=out / "eval"
    )["aggregated"]
    low, high = result["pc_success_ci95"]
    print(f"without words: {result['pc_success']:.1f} % [{low:.1f}, {high:.1f}] of {episodes} scenes; chance is 25 %")


if __name__ == "__main__":
    tyro.cli(main)
