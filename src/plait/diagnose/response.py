"""How much a policy's actions follow one thing that it perceives: 0 where it ignores it, about 1 where it decides all.

What the policy would do is predicted twice, with that thing as it is and exchanged. How far the actions move is
compared with how far they move where (nearly) everything is exchanged. What a policy's own noise moves, if it draws
any, is taken off both.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plait.diagnose.bootstrap import ratio
from plait.diagnose.heatmaps import ROWS
from plait.policy import Policy
from plait.types import Observation

IGNORED = 0.15  # up to here, actions are said not to follow; what a policy uses moves them by at least twice as much
LEAST = 0.05  # standard deviations: where everything exchanged moves the actions by less, nothing is measured by it
MOST = 2.0  # is told where one thing alone moves them further


@dataclass(frozen=True)
class Response:
    """How far one thing moves the actions, where all together move them by 1, with its 95 % interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.2f} times as far (95 % interval: {self.low:.2f} to {self.high:.2f})"


def responses(
    policy: Policy,
    before: Observation,
    after: dict[str, Observation],
    chance: Observation,
    counted: dict[str, Bool[np.ndarray, " n"]] | None = None,
) -> dict[str, Response]:
    """Of each entry of ``after``, how much of the change from ``before`` to ``chance`` it makes, row by row.

    The change is the root mean square over the predicted chunk, in standard deviations of the training actions, all
    entries alike. Without one that counts in any scene, as with actions that are always the same, the share is near 0.
    ``counted``: the rows that count for an entry; all of them when omitted.
    """
    own = _chunks(policy, before, 0)
    noise = _distance(own, _chunks(policy, before, 1))
    everything = _distance(own, _chunks(policy, chance, 2)) - noise
    found = {}
    for name, changed in after.items():
        change = _distance(own, _chunks(policy, changed, 3)) - noise
        rows = torch.ones(len(change), dtype=torch.bool) if counted is None else torch.as_tensor(counted[name])
        found[name] = _response(change[rows], everything[rows])
    return found


def _response(change: Float[Tensor, " n"], everything: Float[Tensor, " n"]) -> Response:
    squares = ratio(change, everything, LEAST**2, MOST**2)
    share, low, high = (max(0.0, squared) ** 0.5 for squared in squares)
    return Response(share, low, high)


def _distance(one: Float[Tensor, "n horizon a"], other: Float[Tensor, "n horizon a"]) -> Float[Tensor, " n"]:
    """The mean square of what lies between them."""
    return (one - other).square().mean(dim=(1, 2))


def _chunks(policy: Policy, observation: Observation, seed: int) -> Float[Tensor, "n horizon a"]:
    """What the policy would do, normalised; ``seed``: of the noise that it may draw."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        some = policy.prepare(observation).split(ROWS)
        return torch.cat([policy.normalise_action.normalise(policy.predict(each)).cpu() for each in some])
