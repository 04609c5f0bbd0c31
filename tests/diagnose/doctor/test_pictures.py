"""Cameras: black, frozen, turned, mirrored, in another order of colours, or another camera altogether."""

from pathlib import Path

import numpy as np
import pytest

from faults import early, images, late, plant, rewrite, swapped


def first_alone(values: np.ndarray) -> np.ndarray:
    return values[:1].repeat(len(values), 0)


def stuck(values: np.ndarray) -> np.ndarray:
    """From the middle on, the same picture."""
    half = len(values) // 2
    return np.concatenate([values[:half], values[half : half + 1].repeat(len(values) - half, 0)])


FILMS = {
    "camera 'wrist' is black in 9 of 9": (images(np.zeros_like, "wrist"), slice(None)),
    "camera 'wrist' shows one colour in 9 of 9": (images(lambda v: np.full_like(v, 90), "wrist"), slice(None)),
    "camera 'front' is frozen while the robot moves in 2 of 9": (images(first_alone, "front"), slice(3, 5)),
    "camera 'front' is frozen while the robot moves in 1 of 9": (images(stuck, "front"), slice(7, 8)),
    "cameras 'front' and 'wrist' show the same pictures in 9 of 9": (
        lambda e: images(lambda _: e.images["front"], "wrist")(e),
        slice(None),
    ),
}
SHIFTED = {
    "repeats its first picture while the robot moves, as late pictures do, in 9 of 9": images(late(3), "front"),
    "repeats its last picture while the robot moves, as early pictures do, in 9 of 9": images(early(3), "front"),
}
VIEWS = {
    "camera 'front' shows what the environment shows upside down": images(lambda v: v[:, ::-1], "front"),
    "camera 'wrist' shows what the environment shows upside down": images(lambda v: v[:, ::-1], "wrist"),
    "camera 'front' shows what the environment shows mirrored": images(lambda v: v[:, :, ::-1], "front"),
    "shows turned by 180 degrees": images(lambda v: v[:, ::-1, ::-1], "front"),
    "shows with red and blue exchanged": images(lambda v: v[..., ::-1], "front"),
    "shows upside down and with red and blue exchanged": images(lambda v: v[:, ::-1, :, ::-1], "front"),
    "camera 'front' shows what the environment shows by camera 'wrist'": swapped,
}


@pytest.mark.parametrize("sentence", FILMS)
def test_a_film_that_shows_nothing_is_named(sentence: str, error, pick: Path, tmp_path: Path) -> None:
    change, some = FILMS[sentence]
    assert sentence in error("pictures", plant(pick, tmp_path / "d", change, some), simulated=False)


@pytest.mark.parametrize("sentence", SHIFTED)
def test_a_delay_is_not_told_as_a_broken_camera(sentence: str, error, pick: Path, tmp_path: Path) -> None:
    told = error("pictures", plant(pick, tmp_path / "d", SHIFTED[sentence]), simulated=False)
    assert sentence in told and "record the camera again" not in told


@pytest.mark.parametrize("sentence", VIEWS)
def test_a_view_that_is_not_the_environments_is_named(sentence: str, doctor, pick: Path, tmp_path: Path) -> None:
    found = doctor("views", plant(pick, tmp_path / "d", VIEWS[sentence]))
    wrong = [each.sentence for each in found if each.severity == "error"]
    assert len(wrong) == (2 if VIEWS[sentence] is swapped else 1)
    assert sentence in wrong[0] and "in 9 of 9 scenes" in wrong[0]


def test_another_scene_is_worth_a_look(doctor, pick: Path, tmp_path: Path) -> None:
    darker = images(lambda v: v // 4, "front")
    front, wrist = doctor("views", plant(pick, tmp_path / "d", darker))
    assert (front.severity, wrist.severity) == ("warning", "ok")
    assert "grey levels from the environment's" in front.sentence


def test_some_episodes_that_differ_from_the_rest_are_named(doctor, error, pick: Path, tmp_path: Path) -> None:
    found = doctor("cameras", plant(pick, tmp_path / "s", swapped, slice(2, 5)), simulated=False)
    said = "in 3 of 9 episodes (2, 3, 4) fits the other episodes as camera"
    assert [said in each.sentence for each in found] == [True, True]
    turned = plant(pick, tmp_path / "t", images(lambda v: v[:, ::-1, ::-1], "front"), slice(2, 5))
    told = error("cameras", turned, simulated=False)
    assert "camera 'front' in 3 of 9 episodes (2, 3, 4) fits the other episodes turned or mirrored" in told


def test_pictures_that_cannot_be_read_are_an_error(error, tmp_path: Path, pick: Path) -> None:
    def cut(values: np.ndarray) -> np.ndarray:
        return np.array([value | {"bytes": value["bytes"][:20]} for value in values])

    broken = rewrite(pick, tmp_path / "d", "observation.images.front", cut)
    assert "is not a readable image" in error("pictures", broken, simulated=False)
