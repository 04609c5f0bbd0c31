"""Pictures of MuJoCo models, without a display, fast on a processor as well."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's names come from a compiled module without stubs.)

import atexit
import weakref
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from plait.envs import opengl

QUALITIES = ("fast", "full")
Size = tuple[int, int]  # (height, width) in pixels
EXPENSIVE = {"shadows": mujoco.mjtRndFlag.mjRND_SHADOW, "reflections": mujoco.mjtRndFlag.mjRND_REFLECTION}


def settings(quality: str) -> dict[str, Any]:
    """What a quality switches on, and in how many samples per pixel it draws (0: edges are not smoothed)."""
    full = quality == "full"
    return {**dict.fromkeys(EXPENSIVE, full), "samples": 4 if full else 0}


class Renderer:
    """Draws any camera at any size; its buffer grows when a picture needs it.

    An OpenGL context belongs to one process and one thread, and takes 20 MB and 40 ms to make: environments whose
    models differ in numbers only (sizes, colours, places) share one.
    """

    def __init__(self, model: mujoco.MjModel, quality: str = "fast") -> None:
        """
        Args:
            model: every model that is drawn later has the same parts, in the same order.
            quality: ``"fast"`` draws no shadows, reflections or smooth edges: about ten times as fast without a
                graphics card.

        Raises:
            OSError: OpenGL cannot be used; the message says what to install.
        """
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._option = mujoco.MjvOption()
        chosen = settings(quality)
        for name, flag in EXPENSIVE.items():
            self._scene.flags[flag] = chosen[name]
        model.vis.quality.offsamples = chosen["samples"]
        self._size = model.vis.global_.offheight, model.vis.global_.offwidth
        self._gl = opengl.context(*self._size)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self.close = weakref.finalize(self, _free, self._gl, self._context)
        self.close.atexit = False
        atexit.register(self.close)  # after MuJoCo's own exit function was registered, so that this runs before it

    def render(self, model: mujoco.MjModel, data: mujoco.MjData, camera: str, size: Size) -> NDArray[np.uint8]:
        """``uint8 [height, width, 3]``, RGB."""
        height, width = size
        self._gl.make_current()
        if height > self._size[0] or width > self._size[1]:
            self._size = max(height, self._size[0]), max(width, self._size[1])
            mujoco.mjr_resizeOffscreen(self._size[1], self._size[0], self._context)
        self._camera.fixedcamid = model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, everything, self._scene)
        viewport, pixels = mujoco.MjrRect(0, 0, width, height), np.empty((height, width, 3), np.uint8)
        mujoco.mjr_render(viewport, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, viewport, self._context)
        return pixels[::-1].copy()  # OpenGL's first row is the lowest


def _free(gl: Any, context: mujoco.MjrContext) -> None:
    gl.make_current()
    context.free()
    gl.free()
