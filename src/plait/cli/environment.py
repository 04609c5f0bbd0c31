"""The environment that a command means when it is given a policy."""

from collections.abc import Iterable
from typing import Any

from plait.cli.parse import pairs


def environment(checkpoint: str, env: str | None, words: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """``env`` with the arguments in ``words``; the one that the policy's training data was recorded in, which is taken
    when ``env`` is None, has that recording's other arguments too.

    Raises:
        ValueError: none is named, and the training data was not recorded with plait.
    """
    given, known = pairs(words, "--env-args"), recorded(checkpoint)
    if env is not None and env != known.get("env"):
        return env, given
    if "env" not in known:
        raise ValueError(
            f"{checkpoint}: its training data was not recorded with plait; say --env ENV, "
            "or --dataset DATASET for the error on held-out episodes."
        )
    return known["env"], {**known["env_args"], **given}


def recorded(checkpoint: str) -> dict[str, Any]:
    """How the policy's training data was recorded, as far as plait did that."""
    from plait.checkpoint import provenance

    return provenance(checkpoint).get("dataset", {}).get("recorded", {})
