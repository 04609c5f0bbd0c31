"""An OpenGL context without a display, and what to say when there is none. Loads MuJoCo only when asked for one."""

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from plait.config import unknown

BACKENDS = ("egl", "osmesa", "glfw", "cgl")
LIBRARIES = {"egl": "the library libEGL is not installed", "osmesa": "the library libOSMesa is not installed"}


def backend() -> str:
    """What the environment variable MUJOCO_GL names; EGL where that is not set and there is no display.

    Raises:
        ValueError: MUJOCO_GL is none of BACKENDS.
    """
    name = os.environ.get("MUJOCO_GL", "").lower() or _default()
    if name not in BACKENDS:
        raise unknown("OpenGL backend (environment variable MUJOCO_GL)", name, BACKENDS)
    return name


def context(height: int, width: int) -> Any:
    """MuJoCo's context for the ``backend``.

    Raises:
        ValueError: MUJOCO_GL is none of BACKENDS.
        OSError: the library is missing (a missing display shows first when MuJoCo uses the context).
    """
    chosen = backend()
    if "torch" in sys.modules:  # triton and Mesa each bring an LLVM: loaded after a context, triton crashes the process
        with suppress(ImportError):
            import_module("triton._C.libtriton")
    try:
        if chosen == "egl":
            from mujoco.egl import GLContext
        elif chosen == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco.gl_context import GLContext
        return GLContext(width, height)
    except (ImportError, AttributeError, RuntimeError) as error:  # what PyOpenGL and MuJoCo raise without a library
        raise missing(error) from error


def missing(error: Exception) -> OSError:
    """The error that tells what to install."""
    reason = str(error)
    if isinstance(error, AttributeError):  # PyOpenGL has met no library and goes on with None
        reason = LIBRARIES.get(backend(), "its library is not installed")
    elif "context has not been created" in reason:  # MuJoCo has met a context that is none
        reason = f"no display can be reached, which MUJOCO_GL={backend()} needs; egl and osmesa need none"
    return OSError(
        f"cannot draw with OpenGL ({reason}). On Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri; or "
        "apt-get install libosmesa6, and set the environment variable MUJOCO_GL=osmesa."
    )


def _default() -> str:
    if sys.platform == "darwin":
        return "cgl"
    return "glfw" if os.environ.get("DISPLAY") or sys.platform == "win32" else "egl"
