"""From a dataset to a trained policy: what ``plait train`` does."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from plait import checkpoint
from plait.config import from_dict, to_dict
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.data.world import World
from plait.encoders.tokenizer import Tokenizer
from plait.files import locked, room
from plait.nn.device import current, pick_device
from plait.policy import PolicyConfig
from plait.safety.calibrate import usual
from plait.safety.calibration import FILE
from plait.train.config import TrainConfig
from plait.train.distributed import first, joined
from plait.train.dropout import ModalityDropout
from plait.train.initialise import start_from
from plait.train.loop import Source, fit
from plait.train.run import Run, checkpoints, damaged, saved


def train(
    policy: PolicyConfig,
    config: TrainConfig,
    dataset: Dataset | Path | str,
    out: Path | str,
    init: Path | str | None = None,
) -> Path:
    """Train a policy on a dataset; the same call on the same folder continues where it stopped.

    In processes that torchrun has started, all train it together.

    Args:
        policy: what to train.
        config: how to train it.
        dataset: a LeRobotDataset v3, or its folder.
        out: the run's folder.
        init: checkpoint of a policy or of aligned encoders to start from; what does not fit is named on standard error.

    Returns:
        The run's folder, from which ``plait.load`` takes the newest checkpoint.

    Raises:
        ValueError: a dataset, checkpoint or run folder that does not fit, or a run that goes on in another process;
            the message says what to change.
        OSError: the disk is full; checkpoints that were written are complete.
        KeyboardInterrupt: interrupted, after a checkpoint was written.
        SystemExit: in a process that torchrun has started beside others, of which another one tells what is wrong.
    """
    from_dict(PolicyConfig, to_dict(policy))  # a part that no checkpoint could be loaded with is refused now
    with joined(config.device) as world:
        check_shared(config, world)
        data, out = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset), Path(out)
        torch.manual_seed(config.seed)
        model = policy.build(data.spec, Tokenizer.build(data.tasks), data.statistics())
        if init is not None and not checkpoints(out):
            print(start_from(model, init), file=sys.stderr)
        with locked(out) if world.leads else nullcontext(), room(out, lambda: saved(out)):
            with first(world):
                run = Run(out, _made_with(policy, config, data, init), checkpoint.save, config.keep)
            if run.step() < config.steps:
                if world.leads and not any((newest / FILE).is_file() for newest in run.checkpoints()[-1:]):
                    run.usual = usual(model, data, run.made_with, videos=False)
                with current(pick_device(config.device)):
                    fit(model, _source(data, model, config, world), config, run, world)
            else:
                _check_whole(run.checkpoints()[-1])
    return out


def check_shared(config: TrainConfig, world: World) -> None:
    """Refuse what several processes cannot share."""
    rows, size = config.batch_size, world.size
    if rows % size:
        raise ValueError(
            f"train.batch_size = {rows}: it is that of all {size} processes together and must be a multiple of "
            f"{size}; say --train.batch-size {max(1, rows // size) * size}."
        )
    if size > 1 and config.modulation.noise:
        raise ValueError(
            f"train.modulation.noise = True: each of the {size} processes would draw its own; train in one process, "
            "or say --train.modulation.no-noise."
        )
    for name in ("cuda_graph", "compile"):
        if size > 1 and config.shard and getattr(config, name):
            raise ValueError(
                f"train.{name} = True: it takes the update as one piece, and with train.shard the weights come and go "
                f"block by block; say --train.no-{name.replace('_', '-')}, or leave --train.shard out."
            )


def _check_whole(newest: Path) -> None:
    try:
        checkpoint.load(newest)
    except ValueError as error:
        raise damaged(newest, error) from error


def _source(data: Dataset, model: Any, config: TrainConfig, world: World) -> Source:
    size = (model.config.image_size, model.config.image_size)
    numbers = {"seed": config.seed, "augment": config.augment, "validation": config.val_fraction}
    numbers |= {"moments": model.moments, "stride": model.config.execute, "world": world}
    with first(world):  # it decodes the images, once
        loader = Loader(data, model.prepare, model.horizon, config.batch_size, size, **numbers)
    if not len(loader.frames):
        raise ValueError(
            f"train.val_fraction = {config.val_fraction}: it leaves no frame to train on; say a smaller "
            "--train.val-fraction, or record more episodes."
        )
    if config.batch_size > len(loader.frames):
        raise ValueError(
            f"train.batch_size = {config.batch_size}: it must be at most the frames that are trained on, "
            f"here {len(loader.frames)}; say --train.batch-size {len(loader.frames)} or less."
        )
    loader.reside(pick_device(config.device))
    return ModalityDropout(loader, config.modality_dropout, config.seed, world) if config.modality_dropout else loader


def _made_with(policy: PolicyConfig, config: TrainConfig, data: Dataset, init: Path | str | None) -> dict[str, Any]:
    """What the numbers of a run depend on. The dataset is known by its content, so it may be moved."""
    content = {**data.content(), "recorded": data.provenance().get("arguments", {})}
    start = None if init is None else str(init)
    return {"policy": to_dict(policy), "train": to_dict(config), "dataset": content, "init": start}
