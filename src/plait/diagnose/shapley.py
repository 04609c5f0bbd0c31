"""Shapley values of the modalities: what each brings to success, whatever the order in which they come.

Shapley, "A value for n-person games" (1953). A modality that is not in a subset is removed: the policy's learned token
stands in its place. All subsets see the same scenes, so that a value is a mean over scenes and has an interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plait.diagnose.bootstrap import ratio
from plait.diagnose.subject import Subject
from plait.evaluate.alter import Removed

SCENES = 50  # of each subset, at most
EXACT = 4  # modalities, of which all orders are counted; of more, ``DRAWN`` and their reverses
DRAWN = 6
Order = tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """In points of percent, with the 95 % interval."""

    points: float
    low: float
    high: float


def shapley(subject: Subject) -> dict[str, Value]:
    """Of each modality."""
    found: dict[frozenset[str], Float[Tensor, " n"]] = {}

    def success(present: frozenset[str]) -> Float[Tensor, " n"]:
        if present not in found:
            found[present] = _success(subject, present)
        return found[present]

    chosen = list(orders(subject.policy.spec.modalities, subject.seed))
    gains: dict[str, list[Tensor]] = {name: [] for name in subject.policy.spec.modalities}
    for order in chosen:
        for place, name in enumerate(order):
            gains[name].append(success(frozenset(order[: place + 1])) - success(frozenset(order[:place])))
    means = {name: 100 * torch.stack(each).mean(dim=0) for name, each in gains.items()}
    return {name: Value(*ratio(mean, torch.ones_like(mean))) for name, mean in means.items()}


def orders(modalities: Order, seed: int) -> Iterator[Order]:
    """All of them, or some with their reverses, which makes the mean over them steadier."""
    if len(modalities) <= EXACT:
        yield from permutations(modalities)
        return
    random = Random(seed)
    for _ in range(DRAWN):
        order = tuple(random.sample(modalities, len(modalities)))
        yield from (order, order[::-1])


def _success(subject: Subject, present: frozenset[str]) -> Float[Tensor, " n"]:
    """1 or 0 for each scene. Where one modality or none is missing, the evaluation is that of the other questions."""
    missing = [name for name in subject.policy.spec.modalities if name not in present]
    if not missing:
        result = subject.normal()
    else:
        few: dict[str, Any] = {"episodes": min(SCENES, subject.episodes)} if len(missing) > 1 else {}
        title = f"{len(present)} of {len(subject.policy.spec.modalities)} modalities"
        name = "-".join(["removed", *missing])
        result = subject.evaluate(name, title, alter=tuple(map(Removed, missing)), **few)
    rows = result["per_episode"][: min(SCENES, subject.episodes)]
    return torch.tensor([float(row["success"]) for row in rows])
