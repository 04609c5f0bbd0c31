"""Pictures of MuJoCo models, without a display, fast on a processor as well."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's names come from a compiled module without stubs.)

import atexit
import os
import weakref
from collections.abc import Mapping
from functools import cache
from threading import get_ident
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from plait.envs import opengl

QUALITIES = ("fast", "smooth", "full")
Size = tuple[int, int]  # (height, width) in pixels
Pictures = dict[str, NDArray[np.uint8]]
Segments = dict[str, NDArray[np.int64]]
EXPENSIVE = {"shadows": mujoco.mjtRndFlag.mjRND_SHADOW, "reflections": mujoco.mjtRndFlag.mjRND_REFLECTION}

SEGMENT = np.array([mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR], int)


def settings(quality: str) -> dict[str, Any]:
    """What a quality switches on, and in how many samples per pixel it draws (0: edges are not smoothed)."""
    return {**dict.fromkeys(EXPENSIVE, quality == "full"), "samples": 0 if quality == "fast" else 4}


class Renderer:
    """Draws any cameras at any sizes; its buffer grows when pictures need it.

    What it holds of a model on the graphics card takes 2 to 40 MB and up to 0.2 s to make: environments whose models
    differ in numbers only (sizes, colours, places) share one.
    """

    def __init__(self, model: mujoco.MjModel, quality: str = "fast") -> None:
        """
        Args:
            model: every model that is drawn later has the same parts, in the same order.
            quality: ``"fast"`` draws no shadows, reflections or smooth edges: about ten times as fast as ``"full"``
                without a graphics card. ``"smooth"`` smooths edges, so that a pixel says how much of it a thing fills.

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
        self._size = model.vis.global_.offheight, model.vis.global_.offwidth
        self._gl = _opengl(os.getpid(), get_ident())
        before = model.vis.quality.shadowsize
        model.vis.quality.offsamples = chosen["samples"]
        model.vis.quality.shadowsize = before if chosen["shadows"] else 0  # a shadow map takes 64 MB
        try:
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:
            raise opengl.missing(error) from error
        model.vis.quality.shadowsize = before
        self.close = weakref.finalize(self, _free, self._gl, self._context)
        self.close.atexit = False
        atexit.register(self.close)  # runs before the OpenGL context is freed: that was registered earlier

    def render(self, model: mujoco.MjModel, data: mujoco.MjData, cameras: Mapping[str, Size]) -> Pictures:
        """Camera -> ``uint8 [height, width, 3]``, RGB. All are drawn side by side, so that they are read at once: on a
        graphics card shared by many processes, each reading costs more than the drawing.
        """
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)  # others may have set theirs
        height, width = max(rows for rows, _ in cameras.values()), sum(columns for _, columns in cameras.values())
        self._make_room((height, width))
        everything, left, places = mujoco.mjtCatBit.mjCAT_ALL, 0, {}
        for camera, (rows, columns) in cameras.items():
            self._camera.fixedcamid = model.camera(camera).id
            mujoco.mjv_updateScene(model, data, self._option, None, self._camera, everything, self._scene)
            mujoco.mjr_render(mujoco.MjrRect(left, 0, columns, rows), self._scene, self._context)
            places[camera] = slice(rows), slice(left, left + columns)
            left += columns
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, mujoco.MjrRect(0, 0, width, height), self._context)
        return {
            camera: pixels[place][::-1].copy() for camera, place in places.items()
        }  # OpenGL's first row is the lowest

    def segment(self, model: mujoco.MjModel, data: mujoco.MjData, cameras: Mapping[str, Size]) -> Segments:
        """Camera -> ``int64 [height, width]``: the geometry that each pixel shows, -1 where there is none.

        For quality ``"fast"`` alone: where edges are smoothed, a pixel is of no single geometry.
        """
        self._scene.flags[SEGMENT] = 1
        pictures = self.render(model, data, cameras)
        self._scene.flags[SEGMENT] = 0
        shown = np.full(self._scene.ngeom + 1, -1)  # by colour, which is 1 + the number of what is drawn
        for drawn in self._scene.geoms[: self._scene.ngeom]:
            if drawn.segid >= 0 and drawn.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                shown[drawn.segid + 1] = drawn.objid
        return {camera: shown[picture @ np.array([1, 256, 65536])] for camera, picture in pictures.items()}

    def _make_room(self, size: Size) -> None:
        """A buffer of at least this size."""
        if size[0] > self._size[0] or size[1] > self._size[1]:
            self._size = max(size[0], self._size[0]), max(size[1], self._size[1])
            mujoco.mjr_resizeOffscreen(self._size[1], self._size[0], self._context)


@cache
def _opengl(process: int, thread: int) -> Any:
    """The OpenGL context of a thread, for all that it draws: another one takes 20 MB, and compiles its shaders anew."""
    context = opengl.context(480, 640)
    atexit.register(context.free)  # after MuJoCo's own exit function was registered, so that this runs before it
    return context


def _free(gl: Any, context: mujoco.MjrContext) -> None:
    gl.make_current()
    context.free()
