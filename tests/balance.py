"""The smallest run of a real policy whose balance is measured."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
from plait import checkpoint
from plait.policy import Policy
from plait.train.config import TrainConfig
from plait.train.loop import fit
from plait.train.run import Run
from plait.train.state import TrainState
from plait.types import Batch
from policies import random_batch, small_policy

CONFIG = replace(tiny.CONFIG, steps=6, imbalance_every=2, log_every=3, device="cpu")


class Source:
    """Batches that depend on their step alone."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        return (random_batch(self.policy, rows=8, seed=step) for step in range(start, stop))

    def validation(self) -> Iterator[Batch]:
        return iter(())


def train(folder: Path, config: TrainConfig, source: type[Source] = Source, **parts: Any) -> TrainState:
    policy = small_policy(keyframe=None, **parts)
    return fit(policy, source(policy), config, Run(folder, {}, checkpoint.save))
