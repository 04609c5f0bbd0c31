"""Environments by name. Importing this package registers them with gymnasium and loads nothing else.

env = plait.envs.make("tabletop", family="pick")             # or gymnasium.make("plait/Tabletop-v0")
observation, info = env.reset(seed=0)
"""

import inspect
import os
from importlib import import_module
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from plait.config import unknown
from plait.envs import opengl

ALIASES = {"tabletop": "plait/Tabletop-v0", "metaworld": "plait/MetaWorld-v0"}
ENTRY_POINTS = {
    "plait/Tabletop-v0": "plait.envs.tabletop.env:Tabletop",
    "plait/MetaWorld-v0": "plait.envs.metaworld.env:MetaWorld",
}

for _id, _entry_point in ENTRY_POINTS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_entry_point)


def environments() -> dict[str, str]:
    """Name -> one line, of the environments that come with plait."""
    return {
        "tabletop": "pick, place, push, stack or recall one of four objects on a table (MuJoCo, built in)",
        "metaworld": "the 50 tasks of Meta-World MT50, each told in one sentence (MuJoCo; needs plait[metaworld])",
    }


def make(env: str, **env_args: Any) -> gymnasium.Env:
    """An environment by its short name (``"tabletop"``) or by any gymnasium id (``"module:id"`` imports the module).

    Args:
        env_args: for the environment's class.

    Raises:
        ValueError: no environment of this name, no such argument, or a value that the environment refuses.
        OSError: there is no OpenGL library (raised here or by the first picture); the message says what to install.
    """
    module, _, identifier = ALIASES.get(env, env).rpartition(":")
    if module:
        _import(env, module)
    if identifier not in gymnasium.registry:
        raise unknown("environment", env, [*ALIASES, *ENTRY_POINTS])
    _check_arguments(env, gymnasium.spec(identifier).entry_point, env_args)
    return gymnasium.make(identifier, **env_args)


def blind(env: gymnasium.Env) -> gymnasium.Env:
    """The same environment again, with no cameras where it can have none: most of a step is drawing."""
    if env.spec is None:
        return env
    cameras = {"cameras": ()} if "cameras" in inspect.signature(type(env.unwrapped)).parameters else {}
    return make(env.spec.id, **{**env.spec.kwargs, **cameras})


def _import(env: str, module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        rule = "before the colon stands a module that Python can import and that registers the environment"
        raise ValueError(f"environment {env!r}: {error}; {rule}") from error


def _check_arguments(env: str, entry_point: Any, env_args: dict[str, Any]) -> None:
    try:
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    except (ImportError, AttributeError, RuntimeError) as error:
        if "MUJOCO_GL" in os.environ and not isinstance(error, ModuleNotFoundError):
            opengl.backend()  # with that variable, MuJoCo loads OpenGL when it is imported: is it a name it knows?
            raise opengl.missing(error) from error
        raise
    parameters = inspect.signature(creator).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in env_args:
        if name not in parameters and not takes_any:
            raise ValueError(f"{env} has {unknown('argument', name, parameters)}")
