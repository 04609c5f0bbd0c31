"""The worker's side of recording: an environment whose expert shows scene after scene."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from plait import envs
from plait.config import to_dict
from plait.data.episode import Episode, encode, storage
from plait.processes import Channel
from plait.record.demonstration import DemonstrationConfig, best_attempt, demonstrate

SEEDS = 2**30  # seeds of recordings lie below, those of evaluations do not
ATTEMPTS = 50  # at one scene, after which the expert is given up


def scene_seed(seed: int, scene: int, attempt: int = 0) -> int:
    """The seed of an attempt at a scene, in [0, 2**30): a pure function of the recording's seed and both numbers."""
    return int(np.random.SeedSequence([seed, scene, attempt]).generate_state(1)[0]) % SEEDS


def work(channel: Channel) -> None:
    """Told the recording's arguments, answer with the embodiment; then one episode for every scene that is asked for.

    Raises:
        ValueError: the environment has no expert, or cannot be made, or its expert fails again and again.
        RuntimeError: something went wrong in a scene.
    """
    arguments = json.loads(channel.receive())
    made = envs.make(arguments["env"], **arguments["env_args"])
    env: Any = made.unwrapped
    if not hasattr(env, "expert") or not hasattr(env, "embodiment"):
        raise ValueError(f"{arguments['env']}: has no scripted expert; record an environment that comes with plait")
    DemonstrationConfig.of(arguments).mishaps(env.embodiment, 0)  # refuses a gripper that cannot slip, at once
    kinds = storage(env.embodiment, arguments["images"])
    channel.send(json.dumps(to_dict(env.embodiment)).encode())
    while True:
        episode = _scene(made, int(channel.receive()), arguments)
        with _located(episode.extra["scene"], episode.extra["seed"]):
            encoded = encode(episode, env.embodiment, kinds)
        encoded.send(channel, pixels=arguments["cache"])


def _scene(env: gymnasium.Env, scene: int, arguments: dict[str, Any]) -> Episode:
    """The scene's demonstration; beside it are kept its number, its seed, which try it is where there are several, and
    how often the expert failed in other layouts before.
    """
    how = DemonstrationConfig.of(arguments)
    for layout in range(ATTEMPTS):
        seed = scene_seed(arguments["seed"], scene, layout)
        with _located(scene, seed):
            attempt = best_attempt(env, seed, scene, how) if how.tries > 1 else 0
            episode = None if attempt is None else demonstrate(env.unwrapped, seed, scene, how, attempt)
        if episode is not None:
            told = {"attempt": attempt} if how.tries > 1 else {}
            return replace(episode, extra={"scene": scene, "seed": seed, **told, "failed": layout * how.tries})
    fix = "weaker pushes, fewer slips, more steps (longest), or another environment"
    raise ValueError(f"the expert failed in {ATTEMPTS} attempts at scene {scene}; {fix}")


@contextmanager
def _located(scene: int, seed: int) -> Iterator[None]:
    """What goes wrong in a scene is told with its number and the seed that it was laid out with."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"scene {scene}, seed {seed}: {type(error).__name__}: {error}") from error
