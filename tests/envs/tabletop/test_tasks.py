from collections import Counter

import numpy as np
import pytest

from plait.envs.tabletop.scene import Scene
from plait.envs.tabletop.tasks import (
    AREA,
    DIRECTIONS,
    FAMILIES,
    FEWEST,
    MIXED,
    SPACING,
    Goal,
    Task,
    destination,
    goals,
    sample,
    succeeded,
)
from plait.envs.tabletop.vocabulary import VOCABULARIES

LARGE = VOCABULARIES["large"]


def _samples(n: int, *families: str, combinations="seen"):
    rng = np.random.default_rng(0)
    return [sample(rng, families, LARGE, combinations) for _ in range(n)]


@pytest.mark.parametrize("family", FAMILIES)
def test_objects_are_apart_and_on_the_table(family: str):
    for task in _samples(20, family):
        places = task.layout.places
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(4)
        assert gaps.min() > SPACING and (np.abs(places) <= AREA).all()
        assert (task.layout.bowl is not None) == (family == "place")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_target_cannot_be_guessed_from_its_place(family: str):
    tasks = _samples(300, family)
    indices = Counter(task.goal.target for task in tasks)
    ranks = Counter(_rank(task) for task in tasks)
    for counts in (indices, ranks):
        assert set(counts) == set(range(4)) and all(45 < count < 105 for count in counts.values())  # 75 +- 4 deviations


def _rank(task: Task) -> int:
    """0 when the target is nearest to the hand, 3 when it is the farthest."""
    order = np.argsort(np.linalg.norm(task.layout.places - task.layout.hand[:2], axis=1))
    return order.tolist().index(task.goal.target)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_object_of_a_scene_could_be_the_target_in_several_ways(family: str):
    for task in _samples(20, family):
        for kind in FAMILIES[family]:
            assert min(len(list(goals(task.layout, kind, i))) for i in range(4)) >= FEWEST[kind]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exchanged_goal_is_about_another_object_of_the_same_scene(family: str):
    for task in _samples(20, family):
        goal, other = task.goal, task.exchanged
        assert goal.target != other.target and goal.kind == other.kind
        assert other.reference not in (other.target,) or other.reference is None
        if goal.kind == "beside":
            assert (goal.reference, goal.where) == (other.reference, other.where)


def test_recall_asks_for_the_one_object_of_the_shown_colour_and_the_named_shape():
    for task in _samples(30, "recall"):
        pairs, target = task.layout.pairs, task.goal.target
        assert task.layout.lamp == pairs[target][0]
        assert [i for i, pair in enumerate(pairs) if pair == (task.layout.lamp, pairs[target][1])] == [target]
        assert sum(shape == pairs[target][1] for _, shape in pairs) == 2  # chance is one in two
        other = pairs[task.exchanged.target]
        assert other[0] == task.layout.lamp and other[1] != pairs[target][1]  # the same lamp, another shape
    assert all(task.layout.lamp is None for task in _samples(20, *MIXED))


def test_mixed_scenes_all_have_a_bowl():
    tasks = _samples(40, *MIXED)
    assert {task.family for task in tasks} == set(FAMILIES) - {"recall"}
    assert all(task.layout.bowl is not None for task in tasks)


@pytest.mark.parametrize("family", FAMILIES)
def test_held_out_targets_are_asked_for_only_on_request(family: str):
    for combinations, held_out in (("seen", False), ("unseen", True)):
        for task in _samples(10, family, combinations=combinations):
            assert (task.layout.pairs[task.goal.target] in LARGE.held_out) == held_out


@pytest.mark.parametrize("family", ["pick", "place", "push", "stack"])  # what is recalled is not named in full
def test_a_distractor_is_never_named_in_any_role(family: str):
    shown = set()
    for task in _samples(30, family, combinations="distractor"):
        shown |= {*task.layout.pairs}
        for goal in (task.goal, task.exchanged):
            named = [task.layout.pairs[i] for i in (goal.target, goal.reference) if i is not None]
            assert LARGE.held_out.isdisjoint(named)
    assert shown & LARGE.held_out
    assert _samples(10, "recall", combinations="distractor")


def test_stacks_are_of_flat_shapes():
    assert all(shape.stacks for task in _samples(30, "stack") for shape in task.layout.shapes)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def _move(scene: Scene, index: int, place) -> None:
    """Put an object somewhere, at rest."""
    scene.data.joint(f"object{index}").qpos[:3] = place
    scene.forward()


def test_success_is_where_the_destination_is(scene: Scene):
    for family in ("place", "stack"):
        for task in _samples(10, family):
            scene.arrange(task.layout)
            assert not succeeded(scene, task.layout, task.goal, [])
            _move(scene, task.goal.target, destination(scene, task.layout, task.goal))
            assert succeeded(scene, task.layout, task.goal, [])
            assert not succeeded(scene, task.layout, task.goal, [task.goal.target])  # still held
            assert not succeeded(scene, task.layout, task.exchanged, [])


def test_left_of_is_left_in_the_front_picture(scene: Scene):
    task = next(t for t in _samples(50, "place") if t.goal.where == "left")
    scene.arrange(task.layout)
    assert destination(scene, task.layout, task.goal)[0] < task.layout.places[task.goal.reference, 0]


@pytest.mark.parametrize("family", ["pick", "recall"])
def test_pick_is_held_in_the_air(scene: Scene, family: str):
    task = _samples(1, family)[0]
    scene.arrange(task.layout)
    target = task.goal.target
    _move(scene, target, scene.place(target) + np.array([0, 0, 0.05]))
    assert succeeded(scene, task.layout, task.goal, [target])
    assert not succeeded(scene, task.layout, task.goal, [])


def test_push_is_in_the_direction_that_was_named(scene: Scene):
    task = _samples(1, "push")[0]
    scene.arrange(task.layout)
    target, start = task.goal.target, scene.place(task.goal.target).copy()
    for where, direction in DIRECTIONS.items():
        _move(scene, target, start + np.append(0.07 * direction, 0))
        assert [w for w in DIRECTIONS if succeeded(scene, task.layout, Goal("push", target, None, w), [])] == [where]
