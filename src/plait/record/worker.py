"""The worker's side of recording: an environment whose expert shows scene after scene."""

import json
from typing import Any

import numpy as np

from plait import envs
from plait.config import to_dict
from plait.data.episode import Episode, encode, storage
from plait.data.keys import IMAGE_PREFIX, STATE
from plait.processes import Channel


def work(channel: Channel) -> None:
    """Told the recording's arguments, answer with the embodiment; then one episode for every scene that is asked for.

    The message is empty for an episode in which the expert failed.

    Raises:
        ValueError: the environment has no expert, or cannot be made.
    """
    arguments = json.loads(channel.receive())
    env: Any = envs.make(arguments["env"], **arguments["env_args"]).unwrapped
    if not hasattr(env, "expert") or not hasattr(env, "embodiment"):
        raise ValueError(f"{arguments['env']}: has no scripted expert; record an environment that comes with plait")
    kinds = storage(env.embodiment, arguments["images"])
    channel.send(json.dumps(to_dict(env.embodiment)).encode())
    while True:
        scene = json.loads(channel.receive())
        episode = demonstrate(env, scene, arguments["noise"])
        channel.send(b"" if episode is None else encode(episode, env.embodiment, kinds).to_bytes())


def demonstrate(env: Any, scene: dict[str, int], noise: float = 0.0) -> Episode | None:
    """One whole episode of the environment's expert in the scene ``scene["seed"]``; None when it does not succeed.

    ``scene`` is kept beside the episode.
    """
    observation, info = env.reset(seed=scene["seed"])
    expert = env.expert(noise=noise)
    instruction, steps, actions = info["task"], [], []
    over = False
    while not over:
        action = expert.action()
        steps.append(observation)
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    if not info["is_success"]:
        return None
    spec = env.embodiment
    images = {camera: np.stack([step[IMAGE_PREFIX + camera] for step in steps]) for camera in spec.cameras}
    state = np.stack([step[STATE] for step in steps]) if spec.state else None
    return Episode(images, state, np.stack(actions), instruction, scene)
