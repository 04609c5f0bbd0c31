"""From pairs of pictures and texts to aligned encoders: what ``plait align`` does."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.alignment.aligner import AlignConfig, Aligner, PairBatch
from plait.alignment.pairs import Pairs
from plait.alignment.right import Right
from plait.config import to_dict
from plait.data.augment import Augment
from plait.data.streams import AUGMENTATION, ORDER, stream_seed
from plait.data.world import ALONE, World
from plait.encoders.tokenizer import Tokenizer
from plait.files import locked, room
from plait.nn.device import current, pick_device
from plait.train import aligned
from plait.train.config import TrainConfig
from plait.train.distributed import first, joined
from plait.train.loop import fit
from plait.train.policy import check_shared
from plait.train.run import Run, saved

TRAIN = TrainConfig(
    steps=3_000,
    batch_size=256,
    learning_rate=3e-3,
    warmup_steps=200,
    ema_decay=0.99,
    val_fraction=0.1,
    augment=Augment(shift=2, brightness=0.0, contrast=0.0, saturation=0.0),
)
"""What suits the tabletop's scenes."""
POLICIES_ALONE = ("modulation", "imbalance_every", "modality_dropout", "shard")
"""Fields of ``TrainConfig`` that have no meaning here."""


def align(config: AlignConfig, train: TrainConfig, pairs: Pairs, out: Path | str, made_of: dict[str, Any]) -> Path:
    """Train encoders on pairs; the same call on the same folder continues where it stopped.

    In processes that torchrun has started, all train them together.

    Args:
        config: what to train.
        train: how to train it; ``val_fraction`` of the pictures is held out, see ``divided``.
        pairs: pictures of the size of ``config``, with their texts.
        out: the run's folder.
        made_of: plain data that tells where the pairs come from.

    Returns:
        The run's folder, from which ``plait.train.aligned.load`` takes the newest checkpoint.

    Raises:
        ValueError: settings that have no meaning here, more pairs in a batch than there are, or a run folder that does
            not fit.
        KeyboardInterrupt: interrupted, after a checkpoint was written.
    """
    check(train)
    with joined(train.device) as world:
        check_shared(train, world)
        out, (learned, kept) = Path(out), divided(pairs, train.val_fraction)
        torch.manual_seed(train.seed)
        words = Tokenizer.build(text for texts in pairs.texts for text in texts)
        model = config.build(words, world=world)
        source = PairSource(learned, kept, model, train.batch_size, train.seed, train.augment, world)
        with locked(out) if world.leads else nullcontext(), room(out, lambda: saved(out)):
            with first(world):
                made_with = {"alignment": to_dict(config), "train": to_dict(train), "pairs": made_of}
                run = Run(out, made_with, aligned.save, train.keep)
            if run.step() < train.steps:
                with current(pick_device(train.device)):
                    fit(model, source, train, run, world)
    return out


def divided(pairs: Pairs, share: float) -> tuple[Pairs, Pairs]:
    """What is learned from, and what is held out, see ``Pairs.kept``.

    Raises:
        ValueError: fewer than 2 pictures are held out.
    """
    kept = pairs.kept(share)
    if len(kept) < 2:
        raise ValueError(
            f"train.val_fraction = {share:g}: it holds out {len(kept)} of {len(pairs)} pictures, the metrics need 2; "
            "give more pictures, or hold out a larger share of them (--train.val-fraction)."
        )
    return pairs.some(np.setdiff1d(np.arange(len(pairs)), kept)), pairs.some(kept)


class PairSource:
    """Batches of pairs: every picture once per epoch, each time with one of its texts, drawn anew.

    Each batch is a function of seed and step alone. A batch may reach over the end of an epoch into the next.

    Raises:
        ValueError: a batch is larger than all pairs that are learned from.
    """

    def __init__(
        self,
        learned: Pairs,
        kept: Pairs,
        model: Aligner,
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        world: World = ALONE,
    ) -> None:
        if batch_size > len(learned):
            raise ValueError(
                f"train.batch_size = {batch_size}: it must be at most the pictures that are learned from, here "
                f"{len(learned)}; say --train.batch-size {len(learned)} or less."
            )
        self.learned, self.kept, self.model, self.batch_size = learned, kept, model, batch_size
        self.seed, self.augment, self.world = seed, augment, world
        self._most = max(len(texts) for pairs in (learned, kept) for texts in pairs.texts)

    def stream(self, start: int, stop: int) -> Iterator[PairBatch]:
        for step in range(start, stop):
            rng = np.random.default_rng([self.seed, AUGMENTATION, step])
            generator = torch.Generator().manual_seed(stream_seed(self.seed, AUGMENTATION, step))
            yield self._batch(self.learned.some(self._rows(step)), rng, generator)

    def validation(self) -> Iterator[PairBatch]:
        """The held-out pairs in whole batches, since the loss depends on their size; what is left over is left out."""
        size, rng = min(self.batch_size, len(self.kept) // self.world.size * self.world.size), np.random.default_rng(0)
        for start in range(0, len(self.kept) - size + 1, size) if size else ():
            yield self._batch(self.kept.some(np.arange(start, start + size)), rng, None)

    def _rows(self, step: int) -> np.ndarray:
        epochs, places = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), len(self.learned))
        orders = {e: np.random.default_rng([self.seed, ORDER, e]).permutation(len(self.learned)) for e in set(epochs)}
        return np.array([orders[epoch][place] for epoch, place in zip(epochs, places, strict=True)])

    def _batch(self, pairs: Pairs, rng: np.random.Generator, generator: torch.Generator | None) -> PairBatch:
        """This process's rows of a batch of all processes together."""
        texts = pairs.drawn(rng)
        words, mask = self.model.tokenizer.encode(texts)
        right = Right.told(texts, pairs.texts, self._most)
        own = PairBatch(*map(self.world.part, (pairs.images, words, mask, right.texts, right.true)))
        if self.augment is None or generator is None:
            return own
        return replace(own, images=self.augment(own.images, generator, self.world))


def check(train: TrainConfig) -> None:
    """Raise a ValueError for what is meant for policies alone, or leaves nothing to measure with."""
    usual = TrainConfig()
    for name in POLICIES_ALONE:
        if (value := getattr(train, name)) != getattr(usual, name):
            option = name.replace("_", "-")
            raise ValueError(f"train.{name} = {value}: it is meant for policies; leave --train.{option} out.")
    if not train.val_fraction:
        raise ValueError("train.val_fraction = 0: the metrics need pictures that are held out; 0.1 is usual.")
