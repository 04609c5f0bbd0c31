"""The worker's side of recording: an environment whose expert shows scene after scene."""

import json
from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from plait import envs
from plait.config import to_dict
from plait.data.episode import Episode, encode, storage
from plait.data.keys import IMAGE_PREFIX, STATE
from plait.processes import Channel
from plait.record.pushes import Pushes

SEEDS = 2**30  # seeds of recordings lie below, those of evaluations do not
ATTEMPTS = 50  # at one scene, after which the expert is given up


def scene_seed(seed: int, scene: int, attempt: int = 0) -> int:
    """The seed of an attempt at a scene, in [0, 2**30): a pure function of the recording's seed and both numbers."""
    return int(np.random.SeedSequence([seed, scene, attempt]).generate_state(1)[0]) % SEEDS


def work(channel: Channel) -> None:
    """Told the recording's arguments, answer with the embodiment; then one episode for every scene that is asked for.

    Raises:
        ValueError: the environment has no expert, or cannot be made, or its expert fails again and again.
    """
    arguments = json.loads(channel.receive())
    made = envs.make(arguments["env"], **arguments["env_args"])
    env: Any = made.unwrapped
    if not hasattr(env, "expert") or not hasattr(env, "embodiment"):
        raise ValueError(f"{arguments['env']}: has no scripted expert; record an environment that comes with plait")
    kinds = storage(env.embodiment, arguments["images"])
    channel.send(json.dumps(to_dict(env.embodiment)).encode())
    while True:
        episode = _scene(made, int(channel.receive()), arguments)
        encode(episode, env.embodiment, kinds).send(channel, pixels=arguments["cache"])


def _scene(env: gymnasium.Env, scene: int, arguments: dict[str, Any]) -> Episode:
    """The scene's demonstration; beside it are kept its number, its seed, which try it is where there are several, and
    how often the expert failed in other layouts before.
    """
    tries, pushes, longest, dwell = (arguments[name] for name in ("tries", "pushes", "longest", "dwell"))
    for layout in range(ATTEMPTS):
        seed = scene_seed(arguments["seed"], scene, layout)
        attempt = _clean(env, seed, scene, tries, pushes, longest) if tries > 1 else 0
        episode = None if attempt is None else demonstrate(env.unwrapped, seed, scene, pushes, longest, attempt, dwell)
        if episode is not None:
            told = {"attempt": attempt} if tries > 1 else {}
            return replace(episode, extra={"scene": scene, "seed": seed, **told, "failed": layout * tries})
    fix = "weaker pushes, more steps (longest), or another environment"
    raise ValueError(f"the expert failed in {ATTEMPTS} attempts at scene {scene}; {fix}")


def _clean(env: gymnasium.Env, seed: int, scene: int, tries: int, pushes: float, longest: int | None) -> int | None:
    """The first try at a layout that succeeds, unless a later one takes less than half of its steps: then the expert
    dithered. None where none succeeds. Nothing is drawn for that.

    The shortest of all would be one that no push made longer, which does not show how to come back.
    """
    best = None
    with closing(envs.blind(env)) as blind:
        for attempt in range(tries):
            episode = demonstrate(blind.unwrapped, seed, scene, pushes, longest, attempt)
            if episode is not None:
                best, longest = attempt, (len(episode.action) - 1) // 2
            if longest == 0:
                break
    return best


def demonstrate(
    env: Any,
    seed: int,
    number: int = 0,
    pushes: float = 0.0,
    longest: int | None = None,
    attempt: int = 0,
    dwell: int = 0,
) -> Episode | None:
    """One whole episode of the environment's expert; None when it does not succeed in ``longest`` steps.

    Args:
        number: the episode's, which decides the task where an environment has several.
        pushes: how strong they are; see ``Pushes``.
        attempt: of several in the same scene, which differ by their pushes.
        dwell: steps after success that belong to it.
    """
    observation, info = env.reset(seed=seed, options={"number": number})
    expert, pushed = env.expert(), Pushes(env.embodiment, pushes, seed, attempt)
    instruction, steps, actions = info["task"], [], []
    ended, succeeded, left = False, False, dwell
    while left >= 0 and len(actions) != longest:
        action = expert.action()
        steps.append(observation)
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(pushed(action))
        if not ended:
            ended, succeeded = terminated, info["is_success"]
        if truncated or (ended and not succeeded):
            break
        left -= ended
    if not succeeded:
        return None
    spec = env.embodiment
    images = {camera: np.stack([step[IMAGE_PREFIX + camera] for step in steps]) for camera in spec.cameras}
    state = np.stack([step[STATE] for step in steps]) if spec.state else None
    return Episode(images, state, np.stack(actions), instruction)
