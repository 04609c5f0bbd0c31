"""Captions are true of the pictures, and name everything in the words of the tabletop's instructions."""

from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from plait import envs
from plait.alignment.captions import caption, captions, order, orders
from plait.envs.tabletop.scene import Layout
from plait.envs.tabletop.tasks import DIRECTIONS

PAIRS = [("red", "cube"), ("blue", "ball"), ("red", "ball"), ("blue", "cube")]
LAYOUT = Layout(PAIRS, np.array([[0.1, 0.0], [-0.1, 0.1], [0.0, -0.1], [0.15, 0.05]]), np.zeros(4), np.zeros(3))


def test_the_four_directions_of_a_scene() -> None:
    assert captions(LAYOUT) == [
        "the blue ball left of the red ball left of the red cube left of the blue cube",
        "the blue cube right of the red cube right of the red ball right of the blue ball",
        "the red ball in front of the red cube in front of the blue cube in front of the blue ball",
        "the blue ball behind the blue cube behind the red cube behind the red ball",
    ]


def test_orders_are_all_there_are_and_begin_with_the_given_one() -> None:
    names = order(LAYOUT, "left")
    assert orders(names)[0] == names and len({caption(each, "left") for each in orders(names)}) == 24


@pytest.mark.parametrize(
    ("where", "axis", "sign"), [("left", 1, 1), ("right", 1, -1), ("front", 0, -1), ("behind", 0, 1)]
)
def test_what_a_caption_says_is_what_the_front_camera_shows(where: str, axis: int, sign: int) -> None:
    """Middle rows and columns of the simulator's own masks; objects that lie almost level are passed over."""
    checked = 0
    with closing(envs.make("tabletop", cameras="front")) as env:
        tabletop: Any = env.unwrapped
        for seed in range(12):
            env.reset(seed=seed)
            middle = {name: np.argwhere(mask).mean(axis=0)[axis] for name, mask in tabletop.masks()["front"].items()}
            along = dict(zip(tabletop.layout.names, tabletop.layout.places @ DIRECTIONS[where], strict=True))
            for one, other in pairwise(order(tabletop.layout, where)):
                if along[one] - along[other] > 0.04:
                    assert sign * (middle[other] - middle[one]) > 0, f"scene {seed}: {one} {where} of {other}"
                    checked += 1
    assert checked > 12
