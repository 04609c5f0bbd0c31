"""What a policy meets on its own way: moments of its episodes, where the state and the pictures are not the first."""

from contextlib import closing

import numpy as np

from plait.control import Controller
from plait.diagnose.subject import Subject
from plait.evaluate.pool import Pool, employed
from plait.evaluate.protocol import evaluation_seed
from plait.evaluate.rollout import SLOTS, rollouts
from plait.evaluate.worker import Scenes
from plait.types import Observation

AT_ONCE = 10  # moments are kept of each call of the policy, each of another episode


def moments(subject: Subject, count: int = 200) -> Observation:
    """Up to ``count`` moments of the policy's own episodes, in random order, the same for the same subject."""
    seeds = tuple(evaluation_seed(subject.seed, i) for i in range(min(subject.episodes, SLOTS)))
    scenes, rng = Scenes(subject.env, seeds, subject.env_args), np.random.default_rng(subject.seed)
    controller, seen = Controller(subject.policy, len(seeds)), []
    with closing(scenes.make()) as env, employed(subject.workers) as workers:
        pool = Pool(scenes, env, len(seeds), controller.execute, workers)

        def plan(observation: Observation) -> np.ndarray:
            seen.append(taken(observation, rng.permutation(np.flatnonzero(pool.running))[:AT_ONCE]))
            return controller.plan(observation, reset=pool.fresh)

        for _ in rollouts(plan, pool, subject.seed):
            pass
    together = _joined(seen)
    return taken(together, rng.permutation(len(together))[:count])


def taken(observation: Observation, rows: np.ndarray) -> Observation:
    """Copies of some rows."""
    images = {camera: pictures[rows] for camera, pictures in observation.images.items()}
    state = None if observation.state is None else observation.state[rows]
    present = {name: flags[rows] for name, flags in observation.present.items()}
    return Observation(images, state, [observation.instruction[row] for row in rows], present)


def _joined(parts: list[Observation]) -> Observation:
    images = {camera: np.concatenate([part.images[camera] for part in parts]) for camera in parts[0].images}
    state = None if parts[0].state is None else np.concatenate([part.state for part in parts])
    return Observation(images, state, [words for part in parts for words in part.instruction])
