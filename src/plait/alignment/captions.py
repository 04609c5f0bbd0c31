"""What a picture of the tabletop shows, in words: its four objects in their order along one direction."""

from itertools import permutations

import numpy as np

from plait.envs.tabletop.instructions import WHERE
from plait.envs.tabletop.scene import Layout
from plait.envs.tabletop.tasks import DIRECTIONS


def captions(layout: Layout) -> list[str]:
    """A sentence for each of the four directions, all of them true; English.

    Each names every object with its colour and shape, so that it holds for a scene only if the four are there in
    this order, and tells colours and shapes apart only together with places: knowing which colours and which shapes
    are there is not enough.

    >>> pairs = [("red", "cube"), ("blue", "ball"), ("red", "ball"), ("blue", "cube")]
    >>> places = np.array([[0.1, 0.0], [-0.1, 0.1], [0.0, -0.1], [0.15, 0.05]])
    >>> captions(Layout(pairs, places, np.zeros(4), np.zeros(3)))[0]
    'the blue ball left of the red ball left of the red cube left of the blue cube'
    """
    return [caption(order(layout, where), where) for where in DIRECTIONS]


def order(layout: Layout, where: str) -> list[str]:
    """The objects' names, the one that is furthest ``where`` (a key of DIRECTIONS) first."""
    return [layout.names[i] for i in np.argsort(-layout.places @ DIRECTIONS[where])]


def caption(names: list[str], where: str) -> str:
    """The sentence that puts the objects in this order, in the words of the tabletop's instructions."""
    return f" {WHERE['en']['beside'][where]} ".join(f"the {name}" for name in names)


def orders(names: list[str]) -> list[list[str]]:
    """Every order that the objects could have; the given one is the first."""
    return [list(each) for each in permutations(names)]
