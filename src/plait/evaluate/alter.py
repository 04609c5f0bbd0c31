"""What is changed in a policy's observations while it runs: a modality taken away, black, frozen, or another's.

An alteration is made in the main process on the observation of all slots, before the policy sees it. The environments
know nothing of it: scenes, goals and success stay as they are. Modalities are named as in ``plait.spec``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from jaxtyping import Bool

from plait.config import part_name, to_dict, unknown
from plait.spec import CAMERA_PREFIX, INSTRUCTION, STATE, Spec, camera_name, is_camera
from plait.types import Observation

Change = Callable[[Observation, Bool[np.ndarray, " n"]], Observation]
"""(observation of n rows, which of them begin an episode) -> what the policy sees. It may remember earlier calls."""


@dataclass(frozen=True)
class Removed:
    """The modality is absent: the policy's learned token stands in its place."""

    modality: str

    def build(self) -> Change:
        return lambda observation, fresh: replace(
            observation, present={**observation.present, self.modality: np.zeros(len(fresh), bool)}
        )


@dataclass(frozen=True)
class Blanked:
    """The camera's pictures are black.

    Raises:
        ValueError: the modality is no camera.
    """

    modality: str

    def __post_init__(self) -> None:
        if not is_camera(self.modality):
            raise ValueError(f"blanked: {self.modality!r} is no camera; name one as in {CAMERA_PREFIX + 'front'!r}")

    def build(self) -> Change:
        return lambda observation, fresh: _changed(
            observation, self.modality, np.zeros_like(_value(observation, self.modality))
        )


@dataclass(frozen=True)
class Frozen:
    """The modality stays what it was at the episode's beginning."""

    modality: str

    def build(self) -> Change:
        held: np.ndarray | None = None

        def change(observation: Observation, fresh: Bool[np.ndarray, " n"]) -> Observation:
            nonlocal held
            now = _value(observation, self.modality)
            begins = fresh.reshape(-1, *[1] * (now.ndim - 1))
            held = now.copy() if held is None else np.where(begins, now, held)
            return _changed(observation, self.modality, held)

        return change


@dataclass(frozen=True)
class Swapped:
    """Every row has the modality of the row before it, the first one that of the last: what another episode shows at
    that moment. It is as usual as any, but tells nothing. Words are those of the episode's beginning throughout.

    Raises:
        ValueError: there is only one row.
    """

    modality: str

    def build(self) -> Change:
        keep = Frozen(self.modality).build()

        def change(observation: Observation, fresh: Bool[np.ndarray, " n"]) -> Observation:
            if len(observation) < 2:
                raise ValueError(f"swapped: {self.modality} of another episode, but only one runs; run at least 2")
            other = np.roll(_value(observation, self.modality), 1, axis=0)
            swapped = _changed(observation, self.modality, other)
            return keep(swapped, fresh) if self.modality == INSTRUCTION else swapped

        return change


@dataclass(frozen=True)
class Shuffled:
    """The instruction's words come in another order, always the same for the same sentence."""

    modality: str = INSTRUCTION

    def build(self) -> Change:
        return lambda observation, fresh: replace(
            observation, instruction=list(map(_shuffled, observation.instruction))
        )


Alteration = Removed | Blanked | Frozen | Swapped | Shuffled


def altering(alterations: Sequence[Alteration]) -> Change:
    """All of them as one change, the first one first."""
    changes = [alteration.build() for alteration in alterations]

    def change(observation: Observation, fresh: Bool[np.ndarray, " n"]) -> Observation:
        for each in changes:
            observation = each(observation, fresh)
        return observation

    return change


def as_json(alterations: Sequence[Alteration]) -> list[dict[str, Any]]:
    """``[{"type": "frozen", "modality": "state"}]``: how they stand in protocols."""
    return [{"type": part_name(type(each)), **to_dict(each)} for each in alterations]


def refuse_unknown(alterations: Sequence[Alteration], spec: Spec) -> None:
    """Raise a ValueError for a modality that the embodiment lacks."""
    for each in alterations:
        if each.modality not in spec.modalities:
            raise unknown("modality", each.modality, spec.modalities)


def _value(observation: Observation, modality: str) -> np.ndarray:
    """``[n, ...]``; sentences are Python objects."""
    if modality == INSTRUCTION:
        return np.array(observation.instruction, dtype=object)
    return np.asarray(observation.state if modality == STATE else observation.images[camera_name(modality)])


def _changed(observation: Observation, modality: str, value: np.ndarray) -> Observation:
    if modality == INSTRUCTION:
        return replace(observation, instruction=value.tolist())
    if modality == STATE:
        return replace(observation, state=value)
    return replace(observation, images={**observation.images, camera_name(modality): value})


def _shuffled(sentence: str) -> str:
    words = sentence.split()
    order = Random(sentence).sample(words, len(words))
    return " ".join(order if order != words else words[1:] + words[:1])
