"""The families of tasks: a scene in which several things could be asked for, one of them chosen, and its success.

Every scene is laid out before anything is chosen, and what is chosen is drawn evenly from all that the scene allows:
neither the target nor the reference can be told without the words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from plait.envs.tabletop.scene import OBJECTS, Layout, Scene, Vector
from plait.envs.tabletop.vocabulary import SHAPES, Pair, Vocabulary

DIRECTIONS = {
    "left": np.array([-1.0, 0.0]),
    "right": np.array([1.0, 0.0]),
    "front": np.array([0.0, -1.0]),  # towards the front camera
    "behind": np.array([0.0, 1.0]),
}
WAYS = np.stack(list(DIRECTIONS.values()))
AREA = np.array([0.16, 0.12])  # objects start within +- this (m)
REACH = np.array([0.19, 0.15])  # and are placed or pushed to within +- this
SPACING = 0.10  # between objects' centres
BOWL_SPACING = 0.125
BOWL_RADIUS = 0.045
YAW = 0.35  # rad, objects are turned by at most this
HAND = np.array([0.0, 0.0, 0.13])  # where it starts, +- 20 mm
BESIDE = 0.09  # from the reference to the place beside it
PUSHED = 0.06
FEWEST = {
    "pick": 1,
    "recall": 1,
    "bowl": 1,
    "beside": 3,
    "push": 2,
    "stack": 3,
}  # things that can be asked of each object


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Attributes:
        kind: ``"pick"``, ``"recall"``, ``"bowl"``, ``"beside"``, ``"push"`` or ``"stack"``.
        target: the index of the object to move.
        reference: the index of the object beside or below it, if any.
        where: a key of DIRECTIONS, or "".
    """

    kind: str
    target: int
    reference: int | None = None
    where: str = ""

    @property
    def lifts(self) -> bool:
        """Whether the target is to be held in the air, and nothing else."""
        return self.kind in ("pick", "recall")


@dataclass(frozen=True)
class Task:
    """A scene, what is asked for, and what could be asked for instead: as nearly the same about another object."""

    family: str
    layout: Layout
    goal: Goal
    exchanged: Goal


FAMILIES = {
    "pick": ("pick",),
    "place": ("bowl", "beside"),
    "push": ("push",),
    "stack": ("stack",),
    "recall": ("recall",),
}
MIXED = ("pick", "place", "push", "stack")  # the families of ``"mixed"``: those that ask for no memory
HORIZONS = {
    "pick": 60,
    "place": 100,
    "push": 80,
    "stack": 100,
    "recall": 60,
}  # control steps, of ``recall`` in the dark


def sample(rng: Generator, families: tuple[str, ...], vocabulary: Vocabulary, combinations: str) -> Task:
    """Draw a scene and its goals. There is a bowl wherever ``families`` has a task for it."""
    family = families[rng.integers(len(families))]
    shapes = tuple(s for s in vocabulary.shapes if family != "stack" or SHAPES[s].stacks)
    pairs, allowed = vocabulary.sample(rng, combinations, shapes)
    kind = FAMILIES[family][rng.integers(len(FAMILIES[family]))]
    layout = _layout(rng, pairs, "place" in families)
    while not all(_enough(layout, kind) for kind in FAMILIES[family]):
        layout = _layout(rng, pairs, "place" in families)
    options = possible = [list(goals(layout, kind, i)) for i in range(OBJECTS)]
    targets = [pairs.index(pair) for pair in allowed]
    if combinations == "distractor":  # named neither as the target nor as what it is put beside
        options = [[g for g in found if {g.target, g.reference} - {None} <= {*targets}] for found in possible]
        targets = [i for i in targets if options[i]]
        if len(targets) < 2:
            return sample(rng, families, vocabulary, combinations)
    target = targets[rng.integers(len(targets))]
    goal = options[target][rng.integers(len(options[target]))]
    others = [g for i in range(OBJECTS) if i != target for g in options[i]]
    alike = [g for g in others if (g.reference, g.where) == (goal.reference, goal.where)] or others
    if family == "recall":
        layout = replace(layout, lamp=pairs[target][0])
        others = [g for i in range(OBJECTS) if i != target for g in possible[i]]
        alike = [g for g in others if pairs[g.target][0] == layout.lamp]  # the lamp is part of the scene: another shape
    return Task(family, layout, goal, alike[rng.integers(len(alike))])


def goals(layout: Layout, kind: str, target: int) -> Iterator[Goal]:
    """Everything of one kind that can be asked of one object in this scene."""
    others = [i for i in range(OBJECTS) if i != target]
    if kind in ("pick", "recall", "bowl"):
        yield Goal(kind, target)
    elif kind == "stack":
        yield from (Goal(kind, target, reference) for reference in others)
    elif kind == "beside":
        for reference in others:
            free = _free(layout, layout.places[reference] + BESIDE * WAYS, reference, 0.08)
            yield from (Goal(kind, target, reference, where) for where in compress(DIRECTIONS, free))
    elif kind == "push":
        place = layout.places[target]
        free = _free(layout, place + 0.085 * WAYS, target, 0.065)
        free &= _free(layout, place + 0.040 * WAYS, target, 0.065)
        free &= _free(layout, place - 0.075 * WAYS, target, 0.06)  # where the hand goes down
        yield from (Goal(kind, target, None, where) for where in compress(DIRECTIONS, free))


def _enough(layout: Layout, kind: str) -> bool:
    """Whether every object could be the target, in several ways where there are several."""
    return all(len(list(goals(layout, kind, i))) >= FEWEST[kind] for i in range(OBJECTS))


def destination(scene: Scene, layout: Layout, goal: Goal) -> Vector:
    """``[3]``: where the target's centre is to come to rest (where it starts, if that is all there is to say)."""
    height = layout.shapes[goal.target].half_height
    if goal.kind == "bowl":
        return np.array([*scene.data.mocap_pos[1][:2], height])
    if goal.reference is None:
        return np.array([*layout.places[goal.target], height])
    reference = scene.place(goal.reference)
    if goal.kind == "stack":
        return reference + np.array([0.0, 0.0, layout.shapes[goal.reference].half_height + height])
    return np.array([*(reference[:2] + BESIDE * DIRECTIONS[goal.where]), height])


def succeeded(scene: Scene, layout: Layout, goal: Goal, touched: list[int]) -> bool:
    """Whether the scene is now as the goal wants it (``pick``, ``recall`` and ``push`` ask for no rest).

    pick, recall: the target is held, at least 45 mm up. push: it has moved 60 mm that way, at most 40 mm sideways, on
    the table. Others: it lies, let go and at rest, in the bowl; within 40 mm of the place 90 mm beside the reference;
    on top of the reference.
    """
    offset = scene.place(goal.target) - destination(scene, layout, goal)
    distance, height = float(np.linalg.norm(offset[:2])), float(offset[2])
    if goal.lifts:
        return height > 0.045 and goal.target in touched
    if goal.kind == "push":
        along = float(offset[:2] @ DIRECTIONS[goal.where])
        return along > PUSHED and distance**2 - along**2 < 0.04**2 and height < 0.01
    if goal.target in touched or scene.speed(goal.target) > 0.06:
        return False
    tolerance = {"bowl": 0.05, "beside": 0.04, "stack": 0.025}[goal.kind]
    return distance < tolerance and abs(height) < (0.04 if goal.kind == "bowl" else 0.012)


def _layout(rng: Generator, pairs: list[Pair], bowl: bool) -> Layout:
    """Objects (and the bowl) at random, SPACING apart: the first of many draws that is."""
    n = OBJECTS + bowl
    needed = np.full((n, n), SPACING)
    needed[OBJECTS:] = needed[:, OBJECTS:] = BOWL_SPACING
    np.fill_diagonal(needed, -1.0)
    while True:
        draws = rng.uniform(-AREA, AREA, (64, n, 2))
        draws[:, OBJECTS:] *= 0.8  # the bowl is wide and has to be in the picture
        gaps = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=-1)
        fits = (gaps > needed).all(axis=(1, 2))
        if fits.any():
            break
    places = draws[fits.argmax()]
    hand = HAND + rng.uniform(-0.02, 0.02, 3)
    return Layout(pairs, places[:OBJECTS], rng.uniform(-YAW, YAW, OBJECTS), hand, places[OBJECTS] if bowl else None)


def _free(layout: Layout, spots: Vector, ignored: int, clearance: float) -> NDArray[np.bool_]:
    """Whether each of ``spots`` ``[n, 2]`` is in reach, and nothing but the ``ignored`` object is near it."""
    gaps = np.linalg.norm(layout.places - spots[:, None], axis=-1)
    gaps[:, ignored] = np.inf
    free = (np.abs(spots) <= REACH).all(axis=1) & (gaps.min(axis=1) > clearance)
    if layout.bowl is not None:
        free &= np.linalg.norm(layout.bowl - spots, axis=1) > clearance + BOWL_RADIUS
    return free
