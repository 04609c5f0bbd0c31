"""Open-loop error: how far the predicted actions are from the demonstrated ones, on episodes that were held out.

For users without a simulator. A small error does not prove success in closed loop, but an error no better than that of
the two trivial baselines (always the mean action; the previous action again) proves that nothing was learned.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plait import checkpoint
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.evaluate.protocol import refuse_misfit, versions
from plait.policy import Policy


def openloop(
    policy: Policy,
    dataset: Dataset | Path | str,
    validation: float = 0.02,
    batch_size: int = 128,
    source: Path | str | None = None,
) -> dict[str, Any]:
    """Mean absolute errors of the policy and of the baselines.

    Args:
        validation: share of the episodes that is held out; give the one of the policy's training
            (``validation_share``), or episodes that it has seen are among them.
        source: the policy's checkpoint or run, for the protocol: which weights they are, and whether ``dataset`` is
            the one that they were trained on.

    Returns:
        ``aggregated``: errors in standard deviations of the training actions, over all entries and steps;
        ``per_action``: for each entry, in its own units and in standard deviations; ``per_step``: for each step of the
        chunk, in standard deviations; ``counts``; ``protocol``. Each error stands under ``policy``, beside those of
        the baselines ``mean_action`` and ``last_action``.

    Raises:
        ValueError: the policy does not fit the dataset, or nothing is held out.
    """
    data = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    refuse_misfit(policy.spec.differences(data.spec, "the policy", "the dataset"), f"dataset {data.path}")
    size = (policy.config.image_size, policy.config.image_size)
    loader = Loader(
        data,
        policy.prepare,
        policy.horizon,
        batch_size,
        size,
        validation=validation,
        cache=False,
        moments=policy.moments,
        stride=policy.config.execute,
    )
    if not len(loader.validation_frames):
        raise ValueError(f"{data.path}: no episode of {len(data.episodes)} is held out; at least 2 episodes are needed")
    errors, mask = _errors(policy.eval(), loader)
    counts = {"n_episodes": len(loader.held_out), "n_frames": len(loader.validation_frames)}
    used = {"dataset": str(data.path), "same_dataset": None if source is None else is_dataset_of(source, data)}
    used |= {"validation": validation, "horizon": policy.horizon, "device": str(policy.device), "versions": versions()}
    used |= {"squeezed": policy.spec.squeezed(data.spec.cameras)}
    used |= {"checkpoint": None if source is None else checkpoint.fingerprint(source)}
    return {**_tables(errors, mask, _deviation(loader), policy.spec.actions), "counts": counts, "protocol": used}


def validation_share(path: Path | str) -> float:
    """The share of the episodes that was held out when the checkpoint was trained; 0.02 where it does not say."""
    return float(checkpoint.provenance(path).get("train", {}).get("val_fraction", 0.02))


def is_dataset_of(path: Path | str, data: Dataset) -> bool | None:
    """Whether the checkpoint was trained on ``data``, so that what is held out was unseen; None: it does not say."""
    trained_on = checkpoint.provenance(path).get("dataset", {})
    return trained_on["crc32"] == data.content()["crc32"] if "crc32" in trained_on else None


def _errors(
    policy: Policy, loader: Loader
) -> tuple[dict[str, Float[Tensor, "n horizon a"]], Bool[Tensor, "n horizon"]]:
    """Absolute errors in units, of the policy and of the baselines, and which steps lie within their episode."""
    batches = [(policy.predict(batch.inputs).cpu(), batch.action, batch.action_mask) for batch in loader.validation()]
    predicted, action, mask = map(torch.cat, zip(*batches, strict=True))
    data, frames = loader.dataset, torch.from_numpy(loader.validation_frames)
    first = torch.tensor([row.start for row in data.episodes])[data.episode_index[frames]]
    last = torch.where((frames > first)[:, None], data.action[(frames - 1).clamp(min=0)], 0.0)  # none yet: stand still
    mean = data.action[torch.from_numpy(loader.frames)].mean(dim=0)
    guesses = {"policy": predicted, "mean_action": mean.expand_as(action)}
    guesses["last_action"] = last[:, None].expand_as(action)
    return {name: (guess - action).abs() for name, guess in guesses.items()}, mask


def _deviation(loader: Loader) -> Float[Tensor, " a"]:
    """Of the training actions; an entry that never changes keeps its own unit."""
    deviation = loader.dataset.action[torch.from_numpy(loader.frames)].std(dim=0)
    return torch.where(deviation > 1e-6, deviation, 1.0)


def _tables(errors: dict[str, Tensor], mask: Tensor, scale: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """The means by entry, by step of the chunk, and over all."""
    scaled = {name: error / scale for name, error in errors.items()}
    per_action = {
        entry: {
            "units": {name: _mean(error[..., i], mask) for name, error in errors.items()},
            "deviations": {name: _mean(error[..., i], mask) for name, error in scaled.items()},
        }
        for i, entry in enumerate(names)
    }
    per_step = [{name: _mean(error[:, k], mask[:, k]) for name, error in scaled.items()} for k in range(mask.shape[1])]
    overall = {name: _mean(error, mask) for name, error in scaled.items()}
    return {"aggregated": overall, "per_action": per_action, "per_step": per_step}


def _mean(error: Tensor, mask: Tensor) -> float | None:
    """The mean over the valid steps (and over the entries, where there are some); None when no step is valid."""
    return round(float(error[mask].mean()), 6) if mask.any() else None
