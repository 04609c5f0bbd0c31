import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from plait.envs.rendering import QUALITIES, Renderer

XML = """<mujoco><worldbody><light pos="0 0 3"/><geom size=".3" rgba="1 0 0 1"/><camera name="above" pos="0 0 2"/>
<camera name="away" pos="0 0 2" euler="180 0 0"/></worldbody></mujoco>"""


@pytest.fixture
def world() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_pictures_of_several_cameras_and_sizes(world):
    renderer = Renderer(world[0])
    small = renderer.render(*world, {"above": (20, 30)})["above"]
    large = renderer.render(*world, {"above": (700, 900)})["above"]  # larger than the buffer was
    assert small.shape == (20, 30, 3) and large.shape == (700, 900, 3)
    assert large[350, 450, 0] > 2 * large[350, 450, 1] and large[0, 0].max() == 0
    both = renderer.render(*world, {"away": (40, 10), "above": (20, 30)})
    assert both["away"].shape == (40, 10, 3) and both["away"].max() == 0
    assert np.array_equal(both["above"], small)
    renderer.close()


def test_smooth_and_full_quality_smooth_edges(world):
    size = {"above": (64, 64)}
    shades = {name: len(np.unique(Renderer(world[0], name).render(*world, size)["above"])) for name in QUALITIES}
    assert min(shades["smooth"], shades["full"]) > shades["fast"]


def test_renderers_take_turns(world):
    """They share one OpenGL context, and each has a buffer of its own there."""
    white = mujoco.MjModel.from_xml_string(XML.replace("1 0 0 1", "1 1 1 1"))
    first, second = Renderer(world[0]), Renderer(white, "full")
    size = {"above": (64, 64)}
    pictures = [
        renderer.render(model, world[1], size)["above"] for renderer, model in ((first, world[0]), (second, white))
    ]
    for _ in range(2):
        assert np.array_equal(first.render(*world, size)["above"], pictures[0])
        assert np.array_equal(second.render(white, world[1], size)["above"], pictures[1])
    assert not np.array_equal(*pictures)
    second.close()
    assert np.array_equal(first.render(*world, size)["above"], pictures[0])


def test_nothing_is_printed_at_exit_without_a_display_or_setting():
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "PYOPENGL_PLATFORM")}
    program = "import plait.envs as e; e.make('tabletop').reset(seed=0); e.make('tabletop', quality='full').reset()"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_segments_name_the_geometry_and_leave_pictures_alone(world):
    renderer = Renderer(world[0])
    size = {"above": (20, 30), "away": (10, 10)}
    before = renderer.render(*world, size)
    segments = renderer.segment(*world, size)
    assert segments["above"].shape == (20, 30)
    assert np.array_equal(segments["above"] == world[0].geom(0).id, before["above"][..., 0] > 0)
    assert (segments["away"] == -1).all()
    after = renderer.render(*world, size)
    assert all(np.array_equal(before[camera], after[camera]) for camera in size)
