"""The physics: MuJoCo's model of the table, the hand and four objects, moved by control steps."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's names come from a compiled module without stubs.)

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from threading import get_ident

import mujoco
import numpy as np
from numpy.typing import NDArray

from plait.envs.rendering import Pictures, Renderer, Segments, Size
from plait.envs.tabletop.vocabulary import COLOURS, SHAPES, Pair, Shape

Vector = NDArray[np.float64]

RATE = 10.0  # control steps per second
SUBSTEPS = 20  # of 5 ms
STEP = 0.01  # m per control step, at most, along each axis
TURN = 0.1  # rad per control step, at most, about each axis
TILT = 0.8  # rad, how far the hand may turn away from upright
OPEN = 0.04  # m, each finger
LOW, HIGH = np.array([-0.27, -0.22, 0.012]), np.array([0.27, 0.22, 0.26])  # where the hand may go
STILL = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])  # the action that changes nothing, fingers open
OBJECTS = 4
DARK = (0.10, 0.10, 0.11)  # the lamp when it shows nothing
HIDDEN = 3  # of MuJoCo's groups of geometry: the first that is not drawn (a bowl below the floor takes time as well)


@dataclass(frozen=True)
class Layout:
    """Where everything is at the start of an episode, in metres and radians.

    Attributes:
        pairs: (colour, shape) of each object.
        places: ``[4, 2]``, x and y of the objects.
        yaws: ``[4]``, their rotation about z.
        hand: ``[3]``, the point between the finger tips.
        bowl: ``[2]``, or None when there is no bowl.
        lamp: the colour that the lamp shows at first, or None when there is no lamp.
    """

    pairs: list[Pair]
    places: Vector
    yaws: Vector
    hand: Vector
    bowl: Vector | None = None
    lamp: str | None = None

    @property
    def names(self) -> list[str]:
        return [" ".join(pair) for pair in self.pairs]

    @property
    def shapes(self) -> list[Shape]:
        return [SHAPES[shape] for _, shape in self.pairs]


class Scene:
    """A model and its state. ``hand`` is the point between the finger tips, where an object is held."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(files("plait.envs.tabletop").joinpath("scene.xml").read_text())
        self.data = mujoco.MjData(self.model)
        self._hand = self.model.body("hand").id
        self._bodies = [self.model.body(f"object{i}").id for i in range(OBJECTS)]
        self._geoms = [int(self.model.body_geomadr[body]) for body in self._bodies]
        self._dofs = [int(self.model.body_dofadr[body]) for body in self._bodies]
        self._fingers = [int(self.model.joint(name).qposadr[0]) for name in ("left_finger", "right_finger")]
        self._finger_dofs = [int(self.model.joint(name).dofadr[0]) for name in ("left_finger", "right_finger")]
        owner = {geom: i for i, geom in enumerate(self._geoms)}
        self._owner = np.array([owner.get(geom, -1) for geom in range(self.model.ngeom)])
        fingers = [self.model.body(name).id for name in ("hand", "left_finger", "right_finger")]
        self._bowl, self._lamp = (self.model.geom_bodyid == self.model.body(name).id for name in ("bowl", "lamp"))
        self.lit = False
        self._is_hand = np.isin(self.model.geom_bodyid, fingers)

    def arrange(self, layout: Layout) -> None:
        """Put everything in its place, at rest, with the gripper open."""
        mujoco.mj_resetData(self.model, self.data)
        for i, (pair, shape) in enumerate(zip(layout.pairs, layout.shapes, strict=True)):
            self._shape(self._geoms[i], shape, COLOURS[pair[0]].rgb)
            pose = self.data.joint(f"object{i}").qpos
            pose[:3] = *layout.places[i], shape.half_height
            pose[3:] = np.cos(layout.yaws[i] / 2), 0, 0, np.sin(layout.yaws[i] / 2)
        self.data.joint("hand").qpos[:3] = self.data.mocap_pos[0] = layout.hand
        self.data.mocap_pos[1] = (0, 0, -1) if layout.bowl is None else (*layout.bowl, 0)
        self.model.geom_group[self._bowl] = 0 if layout.bowl is not None else HIDDEN
        self.model.geom_group[self._lamp] = 0 if layout.lamp is not None else HIDDEN
        self.light(layout.lamp)
        self.data.qpos[self._fingers] = self.data.ctrl[:] = OPEN
        self.forward()

    def light(self, colour: str | None) -> None:
        """Let the lamp show a colour, or none."""
        self.lit = colour is not None
        self.model.geom("lamp").rgba[:3] = DARK if colour is None else COLOURS[colour].rgb

    def forward(self) -> None:
        """Bring everything that follows from positions up to date."""
        mujoco.mj_forward(self.model, self.data)

    def _shape(self, geom: int, shape: Shape, rgb: tuple[float, float, float]) -> None:
        """MuJoCo reads these at every step, so that another shape needs no new model."""
        self.model.geom_type[geom] = getattr(mujoco.mjtGeom, f"mjGEOM_{shape.geom.upper()}")
        self.model.geom_size[geom] = shape.size
        extent = (shape.half_width, shape.half_depth, shape.half_height)
        self.model.geom_rbound[geom] = shape.half_width if shape.geom == "sphere" else np.linalg.norm(extent)
        self.model.geom_aabb[geom] = (0, 0, 0, *extent)
        self.model.geom_rgba[geom] = (*rgb, 1)

    def step(self, action: NDArray[np.floating]) -> None:
        """One control step: move the hand's target by ``action`` ``[7]`` in [-1, 1], then 0.1 s of physics."""
        target, turn = self.data.mocap_pos[0], self.data.mocap_quat[0]
        target[:] = np.clip(target + STEP * action[:3], LOW, HIGH)
        turn[:] = _turned(turn, TURN * action[3:6].astype(np.float64))
        self.data.ctrl[:] = 0.0 if action[6] > 0 else OPEN
        mujoco.mj_step(self.model, self.data, SUBSTEPS)

    @property
    def hand(self) -> Vector:
        return self.data.xpos[self._hand]

    @property
    def fingers(self) -> Vector:
        """``[2]``: how far each finger is from the middle, 0 (closed) to 0.04 m (open)."""
        return self.data.qpos[self._fingers]

    @property
    def finger_speed(self) -> float:
        """Of the faster finger, m/s."""
        return float(np.abs(self.data.qvel[self._finger_dofs]).max())

    def state(self) -> NDArray[np.float32]:
        """``[8]``: the hand's position (m) and rotation (axis-angle, rad), and the two fingers (m)."""
        return np.concatenate([self.hand, _axis_angle(self.data.xquat[self._hand]), self.fingers]).astype(np.float32)

    def place(self, index: int) -> Vector:
        """``[3]``: an object's centre."""
        return self.data.xpos[self._bodies[index]]

    def speed(self, index: int) -> float:
        """Of an object, m/s."""
        dof = self._dofs[index]
        return float(np.linalg.norm(self.data.qvel[dof : dof + 3]))

    def touched(self) -> list[int]:
        """The objects that the hand touches now."""
        pairs = self.data.contact.geom
        ours = pairs[self._is_hand[pairs].any(axis=1)]
        return np.unique(self._owner[ours].max(axis=1, initial=-1)).tolist() if len(ours) else []

    def draw(self, cameras: Mapping[str, Size], quality: str) -> Pictures:
        """Camera -> ``uint8 [height, width, 3]``."""
        return _renderer(quality, os.getpid(), get_ident()).render(self.model, self.data, cameras) if cameras else {}

    def segment(self, cameras: Mapping[str, Size]) -> Segments:
        """Camera -> ``int64 [height, width]``: the object that each pixel shows, -1 where it shows none."""
        found = _renderer("fast", os.getpid(), get_ident()).segment(self.model, self.data, cameras) if cameras else {}
        return {camera: np.where(geoms < 0, -1, self._owner[geoms]) for camera, geoms in found.items()}


@cache
def _renderer(quality: str, process: int, thread: int) -> Renderer:
    """One for all scenes of a thread: their models have the same parts."""
    return Renderer(Scene().model, quality)


def _turned(quaternion: Vector, rotation: Vector) -> Vector:
    """``quaternion`` (wxyz) turned by a rotation vector in the table's frame, kept within TILT of upright."""
    delta, result = np.zeros(4), np.zeros(4)
    angle = float(np.linalg.norm(rotation))
    mujoco.mju_axisAngle2Quat(delta, rotation / max(angle, 1e-12), angle)
    mujoco.mju_mulQuat(result, delta, quaternion)
    vector = _axis_angle(result)
    angle = float(np.linalg.norm(vector))
    mujoco.mju_axisAngle2Quat(result, vector / max(angle, 1e-12), min(angle, TILT))
    return result


def _axis_angle(quaternion: Vector) -> Vector:
    vector = np.zeros(3)
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
