# pyright: reportAttributeAccessIssue=false

import re
from dataclasses import replace
from importlib.resources import files

import mujoco
import numpy as np
import pytest

from plait.envs.rendering import Renderer
from plait.envs.tabletop.scene import OPEN, STEP, SUBSTEPS, TILT, TURN, Layout, Scene
from plait.envs.tabletop.vocabulary import COLOURS, SHAPES

PLACES = np.array([[-0.1, 0.08], [0.1, 0.08], [-0.1, -0.08], [0.1, -0.08]])


def _layout(*shapes: str) -> Layout:
    pairs = [(colour, shape) for colour, shape in zip(("red", "green", "blue", "yellow"), shapes, strict=True)]
    return Layout(pairs, PLACES, np.zeros(4), np.array([0.0, 0.0, 0.13]))


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.arrange(_layout("cube", "ball", "cylinder", "cube"))
    return scene


def _act(scene: Scene, steps: int, **movement: float) -> None:
    names = ("x", "y", "z", "rx", "ry", "rz", "gripper")
    action = np.array([movement.get(name, 0.0 if name != "gripper" else -1.0) for name in names])
    for _ in range(steps):
        scene.step(action)


def test_everything_lies_still(scene: Scene):
    for shapes in (("cube", "ball", "cylinder", "disc"), ("brick", "disc", "ball", "brick")):
        scene.arrange(_layout(*shapes))
        _act(scene, 20)
        for i, shape in enumerate(shapes):
            assert np.allclose(scene.place(i), [*PLACES[i], SHAPES[shape].half_height], atol=1e-3)
            assert scene.speed(i) < 0.01


@pytest.mark.parametrize("axis", range(3))
def test_an_action_of_one_moves_the_hand_ten_millimetres(scene: Scene, axis: int):
    before = scene.state()
    _act(scene, 3, **{"xyz"[axis]: 1.0})
    moved = scene.state() - before
    assert moved[axis] == pytest.approx(3 * STEP, abs=1e-3)
    assert np.abs(np.delete(moved[:6], axis)).max() < 5e-3


@pytest.mark.parametrize("axis", range(3))
def test_an_action_of_one_turns_the_hand_a_tenth_of_a_radian(scene: Scene, axis: int):
    _act(scene, 2, **{("rx", "ry", "rz")[axis]: 1.0})
    assert scene.state()[3 + axis] == pytest.approx(2 * TURN, abs=0.02)


def test_the_hand_stays_upright_enough_and_above_the_table(scene: Scene):
    _act(scene, 30, z=-1.0, rz=1.0)
    assert scene.state()[2] > 0.005
    assert np.linalg.norm(scene.state()[3:6]) < TILT + 0.02


def test_a_positive_gripper_closes(scene: Scene):
    assert scene.fingers == pytest.approx([OPEN, OPEN], abs=1e-3)
    _act(scene, 4, gripper=0.1)
    assert scene.fingers == pytest.approx([0.0, 0.0], abs=2e-3)
    _act(scene, 4, gripper=-0.1)
    assert scene.fingers == pytest.approx([OPEN, OPEN], abs=1e-3)


def test_touched_names_the_object_in_the_hand(scene: Scene):
    assert scene.touched() == []
    layout = _layout("cube", "ball", "cylinder", "cube")
    scene.arrange(replace(layout, hand=np.array([*PLACES[2], 0.03])))
    _act(scene, 3, gripper=1.0)
    assert scene.touched() == [2]


def test_a_scene_can_be_laid_out_again_exactly(scene: Scene):
    def run() -> np.ndarray:
        scene.arrange(_layout("ball", "cube", "disc", "brick"))
        _act(scene, 10, x=1.0, z=-1.0, y=0.7, gripper=1.0)
        return scene.data.qpos.copy()

    first = run()
    scene.arrange(_layout("cube", "cube", "ball", "cylinder"))
    _act(scene, 5, x=-1.0)
    assert np.array_equal(run(), first)


def test_shape_and_colour_are_what_the_layout_says(scene: Scene):
    before = scene.draw({"front": (64, 64)}, "fast")["front"]
    scene.arrange(_layout("ball", "cube", "disc", "brick"))
    after = scene.draw({"front": (64, 64)}, "fast")["front"]
    assert np.any(before != after)
    red = (after[..., 0] > 100) & (after[..., 1] < 60) & (after[..., 2] < 60)
    rows, columns = np.nonzero(red)
    assert len(rows) > 10 and columns.mean() < 32 and rows.mean() < 40  # far left


def test_leaving_out_an_absent_bowl_changes_no_picture():
    scene, layout = Scene(), _layout("cube", "ball", "cylinder", "cube")
    scene.arrange(layout)
    without = scene.draw({"front": (64, 64)}, "fast")["front"]
    assert (scene.model.geom_group[scene._bowl] != 0).sum() == 17
    scene.model.geom_group[scene._bowl] = 0
    np.testing.assert_array_equal(scene.draw({"front": (64, 64)}, "fast")["front"], without)
    scene.arrange(replace(layout, bowl=np.zeros(2)))
    assert (scene.draw({"front": (64, 64)}, "fast")["front"] != without).any()
    scene.arrange(layout)
    np.testing.assert_array_equal(scene.draw({"front": (64, 64)}, "fast")["front"], without)


def test_an_absent_lamp_changes_neither_physics_nor_pictures(scene: Scene):
    """Scenes without one are the same, bit for bit, as those of a model that never had one."""
    text = files("plait.envs.tabletop").joinpath("scene.xml").read_text()
    model = mujoco.MjModel.from_xml_string(re.sub(r'<body name="lamp".*?</body>', "", text, flags=re.DOTALL))
    data = mujoco.MjData(model)
    assert model.ngeom == scene.model.ngeom - 2
    for name in ("geom_type", "geom_size", "geom_rbound", "geom_aabb", "geom_rgba", "geom_group"):
        getattr(model, name)[:] = getattr(scene.model, name)[: model.ngeom]
    for name in ("qpos", "mocap_pos", "ctrl"):
        getattr(data, name)[:] = getattr(scene.data, name)
    mujoco.mj_forward(model, data)
    for action in np.random.default_rng(0).uniform(-1, 1, (40, 7)) - [0, 0, 0.5, 0, 0, 0, 0]:
        scene.step(action)
        data.mocap_pos[:], data.mocap_quat[:] = scene.data.mocap_pos, scene.data.mocap_quat
        data.ctrl[:] = scene.data.ctrl
        mujoco.mj_step(model, data, SUBSTEPS)
        assert np.array_equal(scene.data.qpos, data.qpos)
    cameras = {"front": (64, 64), "wrist": (64, 64)}
    reference, drawn = Renderer(model).render(model, data, cameras), scene.draw(cameras, "fast")
    assert all(np.array_equal(reference[camera], drawn[camera]) for camera in cameras)


def test_the_lamp_touches_nothing_and_no_colour_looks_like_another(scene: Scene):
    scene.arrange(replace(_layout("cube", "ball", "cylinder", "cube"), lamp="red"))
    assert not scene.model.geom_contype[scene._lamp].any() and not scene.model.geom_conaffinity[scene._lamp].any()
    shown = []
    for colour in (*COLOURS, None):
        scene.light(colour)
        assert scene.lit == (colour is not None)
        shown.append(scene.draw({"front": (64, 64)}, "fast")["front"][7:11, 7:12].reshape(-1, 3).mean(axis=0))
    gaps = np.abs(np.array(shown)[:, None] - np.array(shown)[None]).max(axis=-1) + 255 * np.eye(len(shown))
    assert gaps.min() > 60
