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


@pytest.mark.parametrize("size", [0, (64, 5000), (1, 2, 3)])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"size: .*give one whole number"):
        envs.make("tabletop", size=size)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="environment 'nomod:X-v0': No module named 'nomod'; before the colon"):
        envs.make("nomod:X-v0")


def test_a_backend_that_mujoco_refuses_at_its_import_is_named():
    program = "import plait.envs as e; e.make('tabletop')"
    environment = {**os.environ, "MUJOCO_GL": "osmesaa"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stderr.splitlines()[-1].startswith("ValueError: no OpenGL backend (environment variable MUJOCO_GL)")


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
