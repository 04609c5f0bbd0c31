"""What a success rate depends on, written down: the knobs that make published numbers irreproducible when left out."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import torch

from plait.control import Controller
from plait.data.keys import IMAGE_PREFIX, STATE
from plait.encoders.tokenizer import Tokenizer
from plait.evaluate.alter import Alteration, as_json, refuse_unknown
from plait.evaluate.worker import Scenes
from plait.policy import Policy
from plait.spec import Spec
from plait.versions import simulation_versions

FIRST_SEED = 2**30  # recording uses seeds below it, evaluation uses the others: no scene is in both
EPISODES_PER_SEED = 1_000_003


def evaluation_seed(seed: int, episode: int) -> int:
    """The scene of an episode: a number from 2**30 up to 2**31, where no recording's seed ever is.

    Different for every episode of one seed, and for all seeds below 1,000 that have at most a million episodes.
    """
    return FIRST_SEED + (seed * EPISODES_PER_SEED + episode) % FIRST_SEED


def embodiment(env: gymnasium.Env, assumed: Spec) -> Spec:
    """The environment's ``Spec``: its own, or for a foreign one what its spaces tell.

    A foreign environment names no entries; they take the names of ``assumed`` where their number agrees.
    """
    if (own := getattr(env.unwrapped, "embodiment", None)) is not None:
        return own
    boxes = dict(env.observation_space.items()) if isinstance(env.observation_space, gymnasium.spaces.Dict) else {}
    shapes: dict[str, tuple[int, ...]] = {key: box.shape or () for key, box in boxes.items()}
    images = {key.removeprefix(IMAGE_PREFIX): shape for key, shape in shapes.items() if key.startswith(IMAGE_PREFIX)}
    cameras = {camera: (shape[0], shape[1]) for camera, shape in images.items()}
    states = shapes[STATE][0] if STATE in shapes else 0
    names = replace(assumed, action_low=None, action_high=None)
    return replace(
        names,
        cameras=cameras,
        state=_names("state", states, assumed.state),
        actions=_names("action", (env.action_space.shape or (0,))[0], assumed.actions),
    )


def known_instructions(env: gymnasium.Env) -> tuple[str, ...]:
    """What ``reset`` takes as ``options["instruction"]``; a foreign environment has its normal ones alone."""
    return getattr(env.unwrapped, "instructions", ("normal",))


def refuse_deaf(env: gymnasium.Env, scenes: Scenes) -> None:
    """Raise a ValueError for instructions that the environment does not know; a foreign one would ignore the option."""
    known = known_instructions(env)
    if scenes.instructions not in known:
        raise ValueError(
            f"instructions: {scenes.instructions!r} is not known to environment {scenes.env!r}; choose one of {known}"
        )


def fitting(policy: Policy, env: gymnasium.Env, name: str) -> Spec:
    """The ``Spec`` of the environment called ``name``; raises a ValueError where the policy does not fit it."""
    spec = embodiment(env, policy.spec)
    refuse_misfit(policy.spec.differences(spec, "the policy", "the environment"), f"environment {name!r}")
    return spec


def refuse_misfit(differences: list[str], what: str) -> None:
    """Raise the ValueError that says why a policy does not fit ``what``, if there is a reason."""
    if differences:
        lines = "".join(f"\n  - {difference}" for difference in differences)
        raise ValueError(f"this policy does not fit {what}:{lines}")


def protocol(
    controller: Controller,
    scenes: Scenes,
    env: gymnasium.Env,
    alter: Sequence[Alteration],
    seed: int,
    checkpoint: str | None,
) -> dict[str, Any]:
    """Everything that the result depends on besides the weights, whose fingerprint is ``checkpoint``.

    Raises:
        ValueError: the policy does not fit the environment, or that one knows no such instructions or modalities.
    """
    policy = controller.policy
    refuse_deaf(env, scenes)
    spec = fitting(policy, env, scenes.env)
    refuse_unknown(alter, spec)
    return {
        "environment": scenes.env,
        "environment_id": env.spec.id if env.spec else None,
        "env_args": _arguments(env) | scenes.env_args,
        "instructions": scenes.instructions,
        "alter": as_json(alter),
        "cameras": {camera: list(size) for camera, size in spec.cameras.items()},
        "squeezed": policy.spec.squeezed(spec.cameras),
        "policy_image_size": policy.config.image_size,
        "rendering": getattr(env.unwrapped, "rendering", None),
        "rate": spec.rate,
        "horizon": _horizon(env),
        "execute": controller.execute,
        "ensemble": controller.ensemble,
        "precision": policy.precision,
        "action_horizon": policy.horizon,
        "seed": seed,
        "episode_seeds": f"2**30 + (seed * {EPISODES_PER_SEED} + episode) % 2**30; recording uses seeds below 2**30",
        "slots": controller.rows,
        "success": "info['is_success'] at any step",
        "checkpoint": checkpoint,
        "device": str(policy.device),
        "versions": versions(),
    }


def unknown_words(tokenizer: Tokenizer, instructions: Sequence[str]) -> dict[str, Any]:
    """Words of the episodes' instructions that the vocabulary lacks, and in how many percent of them there is one."""
    unknown = {sentence: tokenizer.unknown_words(sentence) for sentence in set(instructions)}
    hit = sum(bool(unknown[sentence]) for sentence in instructions)
    words = sorted({word for words in unknown.values() for word in words})
    return {"words": words, "pc_episodes": round(100 * hit / max(1, len(instructions)), 2)}


def _arguments(env: gymnasium.Env) -> dict[str, Any]:
    """What the environment takes for the arguments that were not given: a default may change some day."""
    parameters = inspect.signature(type(env.unwrapped)).parameters.values()
    plain = (str, int, float, bool, tuple, type(None))
    return {each.name: each.default for each in parameters if isinstance(each.default, plain)}


def _horizon(env: gymnasium.Env) -> Any:
    own = getattr(env.unwrapped, "horizon", None)
    return own if own is not None else env.spec.max_episode_steps if env.spec else None


def _names(kind: str, count: int, assumed: tuple[str, ...]) -> tuple[str, ...]:
    return assumed if len(assumed) == count else tuple(f"{kind}_{i}" for i in range(count))


def versions() -> dict[str, str]:
    """Of plait and of what a policy's results depend on."""
    return simulation_versions() | {"torch": torch.__version__}
