"""The training loop: any model with ``loss(batch) -> {"loss": ..., parts}`` and any source of batches.

A model may have ``progress(share)`` too; before each update it is told the share of the training that is over.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from plait.data.streams import MODEL, stream_seed
from plait.nn.device import pick_autocast, pick_device
from plait.train.config import TrainConfig
from plait.train.graph import CapturedUpdate, Update
from plait.train.imbalance import watch
from plait.train.interrupt import Interrupt
from plait.train.modulation import add_noise, hold_back
from plait.train.optim import learning_rate, set_learning_rate
from plait.train.progress import Meter, Screen
from plait.train.run import Run
from plait.train.state import TrainState
from plait.train.tracker import Tracker


@runtime_checkable
class Source(Protocol):
    """Where batches come from. A batch has a length and can be moved ``.to(device, non_blocking=...)``."""

    def stream(self, start: int, stop: int) -> Iterable[Any]:
        """The batches of the steps ``start`` to ``stop - 1``; each a function of its step alone."""
        ...

    def validation(self) -> Iterable[Any]:
        """Batches of held-out samples; none is allowed."""
        ...


def fit(model: nn.Module, source: Source, config: TrainConfig, run: Run) -> TrainState:
    """Train ``model`` until ``config.steps``, from the newest checkpoint of ``run`` when there is one.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
        FloatingPointError: the loss is no longer finite.
    """
    device = pick_device(config.device)
    autocast = pick_autocast(config.precision, device)
    state = TrainState.start(model.to(device).to(memory_format=torch.channels_last), config)
    run.resume(state)
    if state.step >= config.steps:
        return state
    update: Update = partial(update_weights, state, config.clip_norm, autocast)
    if config.cuda_graph and device.type == "cuda":
        update = CapturedUpdate(update)
    meter = Meter(device)
    with (
        Tracker(run.folder, state.step) as tracker,
        Screen(config.steps, state.step) as screen,
        Interrupt() as interrupt,
    ):
        for batch in meter.watch(source.stream(state.step, config.steps)):
            losses = train_step(state, batch.to(device, non_blocking=True), config, update)
            tracker.add(state.step, losses)
            if config.imbalance_every and state.step % config.imbalance_every == 0:
                tracker.measure(watch(state, batch.to(device), config, autocast))
            if _due(state.step, config.validate_every, config):
                with meter.paused():
                    tracker.measure(validate(state.ema.model, source, device, autocast))
            if _due(state.step, config.log_every, config):
                tracker.measure(meter.rates())
                screen.show(tracker.flush())
            if interrupt.requested or _due(state.step, config.checkpoint_every, config):
                tracker.flush()  # before the checkpoint: a loss that is not finite must not be saved
                run.save(state)
            if interrupt.requested and state.step < config.steps:
                where = f"step {state.step} of {config.steps} is saved in {run.folder}"
                raise KeyboardInterrupt(f"stopped; {where} and the same command continues")
    return state


def train_step(state: TrainState, batch: Any, config: TrainConfig, update: Update) -> dict[str, Tensor]:
    """One step; returns the loss, its parts and the gradient's norm before clipping, still on the device."""
    torch.manual_seed(stream_seed(config.seed, MODEL, state.step))  # dropout and noise depend on seed and step alone
    set_learning_rate(state.optimizer, learning_rate(state.step, config))
    hold_back(state.optimizer, state.paces)
    state.ema.prepare(state.step)
    state.tell_progress(config.steps)
    losses = update(batch)
    state.step += 1
    return losses


def update_weights(state: TrainState, clip_norm: float, autocast: torch.autocast, batch: Any) -> dict[str, Tensor]:
    """Forward, backward, clip, optimise, average: what a GPU can replay as one graph."""
    with autocast:
        losses = state.loss(batch)
    losses["loss"].backward()
    norm = clip_grad_norm_(state.model.parameters(), clip_norm)
    add_noise(state.optimizer)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.ema.update(state.model)
    return {name: value.detach() for name, value in losses.items()} | {"grad_norm": norm}


@torch.no_grad()
def validate(
    model: nn.Module, source: Source, device: torch.device, autocast: torch.autocast
) -> Iterator[tuple[str, float]]:
    """The mean of each loss over the held-out samples; nothing when there are none."""
    torch.manual_seed(0)  # a loss that draws noise draws the same at every validation
    sums: dict[str, Tensor] = {}
    samples = 0
    for batch in source.validation():
        with autocast:
            losses = model.loss(batch.to(device, non_blocking=True))  # pyright: ignore[reportCallIssue]
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.double() * len(batch)
        samples += len(batch)
    for name, total in sums.items():
        yield f"validation/{name}", (total / samples).item()


def _due(step: int, every: int, config: TrainConfig) -> bool:
    return step % every == 0 or step == config.steps
