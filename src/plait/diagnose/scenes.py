"""What a policy sees and is told in many scenes, before it acts, and where in the pictures the objects are."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from plait.data.keys import IMAGE_PREFIX, STATE
from plait.diagnose.subject import Subject
from plait.evaluate.protocol import evaluation_seed
from plait.evaluate.worker import Scenes
from plait.spec import INSTRUCTION, camera_modality
from plait.spec import STATE as STATE_MODALITY
from plait.types import Observation

Mask = Bool[Tensor, "n _ _"]  # cameras may differ in size


@dataclass(frozen=True)
class Truth:
    """Camera -> where its pictures show the object that is named, and where they show the other objects.

    In a task with two objects, the named one is the one to move.
    """

    named: dict[str, Mask]
    others: dict[str, Mask]


@dataclass(frozen=True)
class Views:
    """The first moment of n scenes.

    Attributes:
        observation: n rows.
        facts: what the environment says of each, ``info`` of its ``reset``.
        truth: None where the environment has no ``masks``, or does not say what is named (``info["target"]``).
    """

    observation: Observation
    facts: list[dict[str, Any]]
    truth: Truth | None


def views(subject: Subject, scenes: int, instructions: str = "normal") -> Views:
    """The first ``scenes`` scenes of the subject's evaluation, none of which is in a recording."""
    seeds = tuple(evaluation_seed(subject.seed, i) for i in range(scenes))
    chosen, found, masks = Scenes(subject.env, seeds, subject.env_args, instructions), [], []
    with closing(chosen.make()) as env:
        for episode in range(scenes):
            found.append(chosen.reset(env, episode))
            if hasattr(env.unwrapped, "masks"):
                masks.append(env.unwrapped.masks())  # pyright: ignore[reportAttributeAccessIssue]
    seen, facts = [observation for observation, _ in found], [info for _, info in found]
    images = {
        key.removeprefix(IMAGE_PREFIX): np.stack([row[key] for row in seen])
        for key in seen[0]
        if key.startswith(IMAGE_PREFIX)
    }
    state = np.stack([row[STATE] for row in seen]) if STATE in seen[0] else None
    observation = Observation(images, state, [str(info.get("task", "")) for info in facts])
    told = masks and all(info.get("target") in next(iter(m.values())) for m, info in zip(masks, facts, strict=True))
    return Views(observation, facts, _truth(masks, [info["target"] for info in facts]) if told else None)


def differing(observation: Observation) -> set[str]:
    """The modalities in which not all rows are the same."""
    values = {camera_modality(camera): pictures for camera, pictures in observation.images.items()}
    values |= {INSTRUCTION: np.array(observation.instruction, dtype=object)}
    values |= {} if observation.state is None else {STATE_MODALITY: observation.state}
    rows = {name: np.asarray(value) for name, value in values.items()}
    return {name for name, value in rows.items() if (value != value[:1]).any()}


def _truth(masks: list[dict[str, dict[str, np.ndarray]]], targets: list[str]) -> Truth:
    rows = list(zip(masks, targets, strict=True))
    named, others = {}, {}
    for camera in masks[0]:
        own = [scene[camera][target] for scene, target in rows]
        rest = [np.any([m for name, m in scene[camera].items() if name != t], axis=0) for scene, t in rows]
        named[camera], others[camera] = torch.from_numpy(np.stack(own)), torch.from_numpy(np.stack(rest))
    return Truth(named, others)
