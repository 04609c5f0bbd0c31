"""The smallest model, data and run that the loop can train; as a script, a run for a test to kill.

python tiny.py FOLDER SECONDS_PER_STEP
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from plait.train.config import TrainConfig
from plait.train.loop import fit
from plait.train.run import Run
from plait.train.state import TrainState

CONFIG = TrainConfig(
    steps=12,
    batch_size=8,
    warmup_steps=3,
    log_every=3,
    validate_every=6,
    checkpoint_every=4,
    precision="float32",
    device="cpu",
)


@dataclass
class Pair:
    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device, non_blocking: bool = False) -> "Pair":
        return Pair(self.x.to(device), self.y.to(device))


torch.export.register_dataclass(Pair)


class Model(nn.Module):
    """A convolution, batch norm, dropout and a linear layer: everything whose resumption can go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(4 * 16, 2)

    def loss(self, batch: Pair) -> dict[str, Tensor]:
        features = self.norm(self.convolution(batch.x)).relu().flatten(1)
        error = (self.linear(self.dropout(features)) - batch.y).square().mean()
        size = self.linear.weight.square().mean()
        return {"loss": error + 0.1 * size, "error": error, "size": size}


class Source:
    """Batches that depend on their step alone."""

    def __init__(self, pause: float = 0.0, before: Callable[[int], None] = lambda step: None) -> None:
        self.pause, self.before = pause, before

    def batch(self, step: int) -> Pair:
        generator = torch.Generator().manual_seed(step)
        return Pair(torch.randn(8, 3, 4, 4, generator=generator), torch.randn(8, 2, generator=generator))

    def stream(self, start: int, stop: int) -> Iterator[Pair]:
        for step in range(start, stop):
            time.sleep(self.pause)
            self.before(step)
            yield self.batch(step)

    def validation(self) -> Iterator[Pair]:
        return iter([self.batch(1_000), self.batch(1_001)])


def save(model: nn.Module, folder: Path, provenance: dict[str, Any], extra: Callable[[Path], None]) -> None:
    draft = folder.with_name("." + folder.name)
    draft.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, draft / "model.safetensors")
    extra(draft)
    draft.rename(folder)


def train(folder: Path, config: TrainConfig = CONFIG, source: Source | None = None) -> TrainState:
    torch.manual_seed(0)
    run = Run(folder, {"train": {"steps": config.steps, "keep": config.keep}}, save, config.keep)
    return fit(Model(), source or Source(), config, run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), source=Source(pause=float(sys.argv[2])))
