"""The state of a run: everything that the next step depends on, saved and restored as a whole."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW

from plait.train.config import TrainConfig
from plait.train.ema import Ema
from plait.train.modulation import divide
from plait.train.optim import build_optimizer
from plait.train.sharding import divided, shard, whole

Loss = Callable[[Any], dict[str, Tensor]]  # of a batch
TENSORS, NUMBERS, AVERAGE = "training.safetensors", "training.json", "model.safetensors"


@dataclass
class TrainState:
    """The weights, their average, the optimiser's moments, the number of updates made and what is held back.

    The randomness of a step depends on the seed and the step alone, so no generator is part of it.
    """

    model: nn.Module
    loss: Loss  # model.loss, compiled on request
    ema: Ema
    optimizer: AdamW
    step: int = 0
    paces: dict[str, float] = field(default_factory=dict)  # modality that is held back -> factor on its learning rate

    @classmethod
    def start(cls, model: nn.Module, config: TrainConfig, sharded: bool = False) -> "TrainState":
        """Before the first update. ``sharded``: divide all of it among the processes, which call this together."""
        ema = Ema(model, config.ema_decay)
        for each in (model, ema.model) if sharded else ():
            shard(each)
        loss: Any = model.loss
        optimizer = build_optimizer(model, config)
        if config.modulation.strength:
            divide(optimizer, model, config.modulation.noise)
        on_gpu = next(model.parameters()).is_cuda
        return cls(model.train(), compiled(loss) if config.compile and on_gpu else loss, ema, optimizer)

    def save(self, folder: Path) -> None:
        """Write raw weights, moments and step into ``folder``; the average is the model that is saved beside them."""
        save_file(dict(self._tensors()), folder / TENSORS)
        numbers = {"format_version": 1, "step": self.step, "paces": self.paces}
        (folder / NUMBERS).write_text(json.dumps(numbers) + "\n")

    def give(self) -> None:
        """What a process that does not write adds to the saving of a sharded state: its parts, in the same order."""
        self.ema.model.state_dict()
        for _ in self._tensors():
            pass

    def load(self, folder: Path) -> None:
        """Continue from ``folder``: every tensor is as it was when ``save`` was called."""
        tensors = load_file(folder / TENSORS)
        numbers = json.loads((folder / NUMBERS).read_text())
        self.step, self.paces = numbers["step"], numbers["paces"]
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        self.ema.model.load_state_dict(load_file(folder / AVERAGE))
        for name, parameter in self._optimised():
            prefix = name + "."
            moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            self.optimizer.state[parameter] = {key: _like(parameter, value) for key, value in moments.items()}

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The raw weights and the moments, each whole."""
        for name, value in self.model.state_dict().items():
            yield f"model.{name}", _plain(value)
        for name, parameter in self._optimised():
            for key, value in self.optimizer.state[parameter].items():
                yield f"{name}.{key}", _plain(whole(value))

    def _optimised(self) -> list[tuple[str, nn.Parameter]]:
        """Each optimised parameter under the name of its moments."""
        return [(f"optimizer.{name}", p) for name, p in self.model.named_parameters() if p.requires_grad]


def compiled(loss: Loss) -> Loss:
    """``loss``, compiled when it is first called.

    Raises:
        ValueError: then, where it cannot be compiled.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # takes a second to load

    fast: Loss = torch.compile(loss)

    def call(batch: Any) -> dict[str, Tensor]:
        try:
            return fast(batch)
        except BackendCompilerFailed as error:
            cause: Any = error.inner_exception
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from error
            details = getattr(cause, "details", "")  # the traceback of a process that compiled
            lines = (details or str(cause)).strip().splitlines() or ["no reason is given"]
            why = f"{type(cause).__name__}: {lines[-1 if details else 0]}"
            raise ValueError(f"train.compile: {why}; install what is missing, or say --train.no-compile") from error

    return call


def _plain(value: Tensor) -> Tensor:
    """On the CPU and contiguous, as safetensors demands."""
    return value.detach().cpu().contiguous()


def _like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """``value`` on the parameter's device and, if it has its shape, in its memory format: fused AdamW needs both."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter.detach()).copy_(divided(value, parameter))
