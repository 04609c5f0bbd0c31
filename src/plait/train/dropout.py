"""Modality dropout: hide a camera or the state now and then, so that the policy learns to do without it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from plait.data.streams import MODALITY_DROPOUT, stream_seed
from plait.data.world import ALONE, World
from plait.spec import INSTRUCTION
from plait.train.loop import Source
from plait.types import Batch


class ModalityDropout:
    """A source of batches in which each camera and the state is absent with ``probability``, row by row.

    The instruction is never hidden: a policy that is told nothing has nothing to imitate.
    Which rows are hidden depends on the seed and the step alone, not on the process. Validation is left as it is.
    """

    def __init__(self, source: Source, probability: float, seed: int, world: World = ALONE) -> None:
        self.source, self.probability, self.seed, self.world = source, probability, seed, world

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        for step, batch in enumerate(self.source.stream(start, stop), start):
            generator = torch.Generator().manual_seed(stream_seed(self.seed, MODALITY_DROPOUT, step))
            yield self._hide(batch, generator)

    def validation(self) -> Iterable[Batch]:
        return self.source.validation()

    def _hide(self, batch: Batch, generator: torch.Generator) -> Batch:
        present = {}
        for name, flags in sorted(batch.inputs.present.items()):
            kept = torch.rand(self.world.size * len(batch), generator=generator) >= self.probability
            kept = self.world.part(kept).repeat_interleave(len(flags) // len(batch))  # in all moments of a window
            present[name] = flags if name == INSTRUCTION else flags & kept.to(flags.device, non_blocking=True)
        return replace(batch, inputs=replace(batch.inputs, present=present))
