"""The training loop: any model with ``loss(batch) -> {"loss": ..., parts}`` and any source of batches."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from plait.data.streams import MODEL, stream_seed
from plait.data.world import ALONE, World
from plait.nn.device import pick_autocast, pick_device
from plait.nn.noise import whole_batches
from plait.nn.replay import Replay
from plait.train.config import TrainConfig
from plait.train.distributed import any_wishes, average, take_from_first, total, wait
from plait.train.flops import peak, sample_flops
from plait.train.imbalance import watch
from plait.train.interrupt import Interrupt
from plait.train.modulation import add_noise, hold_back
from plait.train.optim import learning_rate, set_learning_rate
from plait.train.progress import Meter, Screen
from plait.train.run import Run
from plait.train.sharding import gathered, is_divided, whole
from plait.train.state import TrainState
from plait.train.tracker import Mute, Tracker

Update = Callable[[Any], dict[str, Tensor]]


@runtime_checkable
class Source(Protocol):
    """Where batches come from. A batch has a length and can be moved ``.to(device, non_blocking=...)``."""

    def stream(self, start: int, stop: int) -> Iterable[Any]:
        """The batches of the steps ``start`` to ``stop - 1``; each a function of its step alone."""
        ...

    def validation(self) -> Iterable[Any]:
        """Batches of held-out samples; none is allowed."""
        ...


def fit(model: nn.Module, source: Source, config: TrainConfig, run: Run, world: World = ALONE) -> TrainState:
    """Train ``model`` until ``config.steps``, from the newest checkpoint of ``run`` when there is one.

    Args:
        world: several processes call this together, each with its part of every batch; the first one writes.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM, after a checkpoint was written.
        FloatingPointError: the loss is no longer finite.
    """
    device = pick_device(config.device)
    autocast = pick_autocast(config.precision, device)
    sharded = config.shard and world.size > 1
    state = TrainState.start(model.to(device).to(memory_format=torch.channels_last), config, sharded)
    run.resume(state)
    if state.step >= config.steps:
        return state
    update: Update = partial(update_weights, state, config.clip_norm, autocast, world)
    if config.cuda_graph and device.type == "cuda":
        update = Replay(update)
    meter = Meter(device, world.size, None if sharded else _ideal_seconds(state, source, device, autocast))
    with (
        Tracker(run.folder, state.step) if world.leads else Mute() as tracker,
        Screen(config.steps, state.step) as screen,
        Interrupt() as interrupt,
    ):
        for batch in meter.watch(source.stream(state.step, config.steps)):
            losses = train_step(state, batch.to(device, non_blocking=True), config, update)
            tracker.add(state.step, losses)
            stop = any_wishes(interrupt.requested, world)
            if config.imbalance_every and state.step % config.imbalance_every == 0:
                tracker.measure(watch(state, batch.to(device), config, autocast, world))
            if _due(state.step, config.validate_every, config):
                with meter.paused():
                    tracker.measure(validate(state.ema.model, source, device, autocast, world))
            if _due(state.step, config.log_every, config):
                tracker.measure(meter.rates())
                if row := tracker.read():
                    screen.show(row)
            if stop or _due(state.step, config.checkpoint_every, config):
                tracker.flush()  # before the checkpoint: a loss that is not finite must not be saved
                if world.leads:
                    run.save(state)
                elif sharded:
                    state.give()
                wait(world)
            if stop and state.step < config.steps:
                where = f"step {state.step} of {config.steps} is saved in {run.folder}"
                raise KeyboardInterrupt(f"stopped; {where} and the same command continues")
    return state


def train_step(state: TrainState, batch: Any, config: TrainConfig, update: Update) -> dict[str, Tensor]:
    """One step; returns the loss, its parts and the gradient's norm before clipping, still on the device."""
    torch.manual_seed(stream_seed(config.seed, MODEL, state.step))  # of dropout and noise, see ``plait.nn.noise``
    set_learning_rate(state.optimizer, learning_rate(state.step, config))
    hold_back(state.optimizer, state.paces)
    state.ema.prepare(state.step)
    losses = update(batch)
    state.step += 1
    return losses


def update_weights(
    state: TrainState, clip_norm: float, autocast: torch.autocast, world: World, batch: Any
) -> dict[str, Tensor]:
    """Forward, backward, clip, optimise, average: what a GPU can replay as one graph."""
    with autocast:
        losses = state.loss(batch)
    losses["loss"].backward()
    losses = {name: value.detach() for name, value in losses.items()}
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    average([*(each for each in gradients if not is_divided(each)), *losses.values()], world)  # the others already are
    norm = whole(clip_grad_norm_(state.model.parameters(), clip_norm))
    add_noise(state.optimizer)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.ema.update(state.model)
    return losses | {"grad_norm": norm}


@torch.no_grad()
def validate(
    model: nn.Module, source: Source, device: torch.device, autocast: torch.autocast, world: World = ALONE
) -> Iterator[tuple[str, float]]:
    """The mean of each loss over the held-out samples of all processes; nothing when there are none."""
    take_from_first(model.buffers(), world)  # its batch norm is what is saved
    sums: dict[str, Tensor] = {}
    samples = 0
    with gathered(model), whole_batches():  # one process may have a batch more than another
        for own, batch in enumerate(source.validation()):
            torch.manual_seed(own * world.size + world.rank)  # the same noise every time, whoever has the batch
            with autocast:
                losses = model.loss(batch.to(device, non_blocking=True))  # pyright: ignore[reportCallIssue]
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.double() * len(batch)
            samples += len(batch)
    own = [samples, *torch.stack(list(sums.values())).tolist()] if samples else []
    everywhere = total(own, world)
    for name, value in zip(sums, everywhere[1:], strict=False):  # the first process has batches if any has
        yield f"validation/{name}", value / everywhere[0]


def _ideal_seconds(state: TrainState, source: Source, device: torch.device, autocast: torch.autocast) -> float | None:
    """How long one sample would take at the peak of the GPU, where that is known."""
    if (flops_per_second := peak(device)) is None:
        return None
    batch = next(iter(source.stream(state.step, state.step + 1)))
    return sample_flops(state.model, batch.to(device), autocast) / flops_per_second


def _due(step: int, every: int, config: TrainConfig) -> bool:
    return step % every == 0 or step == config.steps
