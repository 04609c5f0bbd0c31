"""Training on batches that are not as they were recorded: what a fault in the data does, with nothing else changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from plait import checkpoint
from plait.config import to_dict
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.encoders.tokenizer import Tokenizer
from plait.recipes import Recipe
from plait.train.loop import Source, fit
from plait.train.run import Run
from plait.types import Batch

Change = Callable[[Batch], Batch]


@dataclass
class Altered:
    """A source whose batches are changed, those of the validation too."""

    source: Source
    change: Change

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        return map(self.change, self.source.stream(start, stop))

    def validation(self) -> Iterator[Batch]:
        return map(self.change, self.source.validation())


def train(data: Dataset, recipe: Recipe, out: Path, change: Change) -> None:
    """The recipe on ``data`` under ``change``; continues what is in ``out``."""
    torch.manual_seed(recipe.train.seed)
    policy = recipe.policy.build(data.spec, Tokenizer.build(data.tasks), data.statistics())
    size = policy.config.image_size, policy.config.image_size
    loader = Loader(data, policy.prepare, policy.horizon, recipe.train.batch_size, size, augment=recipe.train.augment)
    made_with = {"altered": change.__name__, "policy": to_dict(recipe.policy), "train": to_dict(recipe.train)}
    fit(policy, Altered(loader, change), recipe.train, Run(out, made_with, checkpoint.save))
