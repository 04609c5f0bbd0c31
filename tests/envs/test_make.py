import os
import subprocess
import sys

import gymnasium
import pytest

from plait import envs


def test_short_name_and_gymnasium_id_make_the_same_environment():
    assert type(envs.make("tabletop").unwrapped) is type(gymnasium.make("plait.envs:plait/Tabletop-v0").unwrapped)


def test_any_gymnasium_id_works():
    assert envs.make("CartPole-v1", render_mode="rgb_array").render_mode == "rgb_array"


def test_every_listed_environment_can_be_made():
    for name, line in envs.environments().items():
        assert line
        assert envs.make(name).unwrapped.embodiment.actions


@pytest.mark.parametrize(
    ("env", "arguments", "hint"),
    [
        ("tabeltop", {}, "tabletop"),
        ("tabletop", {"famly": "pick"}, "family"),
        ("tabletop", {"family": "pik"}, "pick"),
        ("tabletop", {"vocabulary": "smal"}, "small"),
        ("tabletop", {"cameras": ("wirst",)}, "wrist"),
        ("tabletop", {"language": "eng"}, "en"),
        ("CartPole-v1", {"rendermode": None}, "render_mode"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(env: str, arguments: dict, hint: str):
    with pytest.raises(ValueError, match=f"Did you mean '{hint}'"):
        envs.make(env, **arguments)


def test_a_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="size"):
        envs.make("tabletop", size=0)


def test_importing_the_package_loads_neither_torch_nor_mujoco():
    program = "import sys, plait.envs; sys.exit(bool({'torch', 'mujoco'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_missing_library_is_named_with_what_to_install():
    """With MUJOCO_GL=egl, older releases of MuJoCo fail when they are imported, newer ones when they draw."""
    program = "import plait.envs as e; e.make('tabletop').reset()"
    environment = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stderr.splitlines()[-1].startswith("OSError: cannot draw") and "apt-get install" in result.stderr
