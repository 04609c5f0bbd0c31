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
