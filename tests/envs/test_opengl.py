import os
import subprocess
import sys

import pytest

from plait.envs import opengl


def test_a_wrong_backend_is_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "elg")
    with pytest.raises(ValueError, match="Did you mean 'egl'"):
        opengl.context(8, 8)


def test_a_missing_library_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setenv("PYOPENGL_PLATFORM", "none of these")
    with pytest.raises(OSError, match="apt-get install"):
        opengl.context(8, 8)


def test_the_library_is_named_in_plain_words(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    raw = AttributeError("'NoneType' object has no attribute 'eglQueryString'")
    assert str(opengl.missing(raw)).startswith(
        "cannot draw with OpenGL (the library libEGL is not installed). On Debian"
    )


def test_a_missing_display_is_told():
    variables = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")} | {"MUJOCO_GL": "glfw"}
    program = "import plait.envs as e\ntry: e.make('tabletop').reset()\nexcept OSError as error: print(error)"
    told = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    assert told.stdout.startswith("cannot draw with OpenGL (no display can be reached, which MUJOCO_GL=glfw needs; ")


def test_an_optimizer_can_be_built_after_something_was_drawn() -> None:
    script = "import torch, plait.envs as e; e.make('tabletop').reset(seed=0); torch.optim.AdamW([torch.zeros(3)])"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
