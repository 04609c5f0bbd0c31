"""Clean episodes that a policy drives itself: what its fused features are like there.

They are other ones than those of demonstrations: a policy comes to places where no expert goes.
"""

from collections import defaultdict
from contextlib import closing
from typing import Any

import numpy as np

from plait.config import refuse_small
from plait.control import Controller
from plait.evaluate.pool import Pool, Workers, employed
from plait.evaluate.protocol import evaluation_seed, protocol
from plait.evaluate.rollout import SLOTS, rollouts
from plait.evaluate.worker import Scenes
from plait.policy import Policy
from plait.progress import Bar
from plait.safety.calibrate import Features, featured
from plait.types import Observation

SEED = 999  # of the scenes: no evaluation with a smaller seed has any of them


def driven_features(
    policy: Policy,
    env: str,
    env_args: dict[str, Any] | None = None,
    episodes: int = 400,
    workers: Workers | int | None = None,
    quiet: bool = False,
) -> list[Features]:
    """Of each episode, the features at the moments at which the policy plans, for ``plait.safety.calibrate``.

    Args:
        policy, env, env_args, workers, quiet: as in ``evaluate``.

    Raises:
        ValueError: a number that is too small, or the policy does not fit the environment.
    """
    refuse_small(episodes=(episodes, 1))
    scenes = Scenes(env, tuple(evaluation_seed(SEED, i) for i in range(episodes)), env_args or {})
    controller, found = Controller(policy, min(SLOTS, episodes)), defaultdict[int, list[Features]](list)
    with closing(scenes.make()) as probe, employed(workers) as staff:
        protocol(controller, scenes, probe, (), SEED, None)  # refuses what does not fit
        pool = Pool(scenes, probe, controller.rows, controller.execute, staff)

        def plan(observation: Observation) -> np.ndarray:
            seen = featured(policy, policy.prepare(observation))
            for slot in np.flatnonzero(pool.running):
                found[pool.index[slot]].append({name: rows[slot] for name, rows in seen.items()})
            return controller.plan(observation, reset=pool.fresh)

        with Bar("driving", episodes, "episodes", quiet=quiet) as bar:
            for _ in rollouts(plan, pool, SEED):
                bar.advance()
    return [{name: np.stack([moment[name] for moment in found[i]]) for name in found[i][0]} for i in range(episodes)]
