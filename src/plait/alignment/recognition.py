"""Does a picture tell which object lies where? Asked of colours and shapes that were, or never were, seen together."""

import numpy as np

from plait.alignment.aligner import Aligner
from plait.alignment.captions import caption, order, orders
from plait.alignment.pairs import Scenes
from plait.envs.tabletop.tasks import DIRECTIONS

CHANCE = 0.25  # one of four places


def placed(aligner: Aligner, scenes: Scenes) -> list[bool]:
    """Of each scene, whether the object that is asked for gets its own place among the four.

    Every order in which the scene's objects could lie along a direction, drawn anew for each scene, is one text; the
    one that the picture is most similar to decides. All 24 name the same colours and shapes equally often, so that only
    their combination and its place can tell them apart.
    """
    rng, found = np.random.default_rng(0), []
    pictures = aligner.embed_images(scenes.images)
    for picture, layout, target in zip(pictures, scenes.layouts, scenes.targets, strict=True):
        where = list(DIRECTIONS)[rng.integers(len(DIRECTIONS))]
        possible = orders(order(layout, where))
        texts = aligner.embed_texts([caption(names, where) for names in possible])
        best = possible[int((texts @ picture).argmax())]
        found.append(best.index(target) == possible[0].index(target))
    return found
