"""Cameras: black, frozen, turned, mirrored, in another order of colours, or another camera altogether."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faults import early, episodes, images, late, plant, rewrite, swapped
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.diagnose.doctor.examine import examine
from plait.record.recorder import record


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
    "shows turned by 90 degrees to the left": images(lambda v: np.rot90(v, 1, (1, 2)), "front"),
    "shows turned by 90 degrees to the right": images(lambda v: np.rot90(v, -1, (1, 2)), "wrist"),
    "shows with rows and columns exchanged": images(lambda v: v.swapaxes(1, 2), "front"),
    "shows with red and blue exchanged": images(lambda v: v[..., ::-1], "front"),
    "shows with red and green exchanged": images(lambda v: v[..., [1, 0, 2]], "front"),
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


def test_what_video_loses_is_no_other_view(tmp_path: Path) -> None:
    record("tabletop", tmp_path / "d", 3, {"family": "pick", "size": 64}, workers=1, images="video")
    found = [each for each in examine(tmp_path / "d").findings if each.check == "views"]
    assert [each.severity for each in found] == ["ok", "ok"]
    assert all(0 < each.numbers["difference"] < 3 for each in found)


def brighter(values: np.ndarray) -> np.ndarray:
    return np.minimum(values, 235) + np.uint8(20)


@pytest.mark.parametrize("change", [lambda v: v // 4, brighter, lambda v: np.roll(v, 4, axis=2)])
@pytest.mark.parametrize(("some", "which"), [(slice(None), "9 of them (0, 1"), (slice(4, 5), "1 of them (4)")])
def test_another_view_is_worth_a_look(change, some, which: str, doctor, pick: Path, tmp_path: Path) -> None:
    front, wrist = doctor("views", plant(pick, tmp_path / "d", images(change, "front"), some))
    assert (front.severity, wrist.severity) == ("warning", "ok")
    assert f"grey levels from the environment's pictures of 9 scenes; {which}" in front.sentence
    assert "are not alike (above 3), and turned no nearer" in front.sentence


def test_pictures_of_other_episodes_are_named(doctor, pick: Path, tmp_path: Path) -> None:
    old = episodes(Dataset.open(pick))

    def exchanged(how_many: int) -> Path:
        """The first episodes have the pictures of the one before, of which the last one fills the gap."""
        turns = iter(range(9))

        def change(episode: Episode) -> Episode:
            place = next(turns)
            other = old[(place - 1) % how_many] if place < how_many else episode
            frames = np.minimum(np.arange(len(episode.action)), len(other.action) - 1)
            return replace(episode, images={camera: seen[frames] for camera, seen in other.images.items()})

        return plant(pick, tmp_path / str(how_many), change)

    for how_many, which in ((9, "0, 1, 2, 3, 4 and 4 more"), (3, "0, 1, 2")):
        found = doctor("views", exchanged(how_many))
        assert [each.severity for each in found] == ["error", "error"]
        said = f"shows what the environment shows of another episode, in {how_many} of 9 scenes ({which})"
        assert found[0].sentence == f"camera 'front' {said}; pair pictures and episodes"


def test_some_pictures_of_scenes_that_are_laid_out_tell_of_all(doctor, pick: Path, tmp_path: Path) -> None:
    """Most of the pictures are of scenes that the dataset does not have; two are of scenes that it has."""
    record("tabletop", tmp_path / "other", 9, {"family": "pick", "size": 40}, workers=1, seed=1)
    own, strangers = episodes(Dataset.open(pick)), iter(episodes(Dataset.open(tmp_path / "other")))
    turns = iter(range(9))

    def change(episode: Episode) -> Episode:
        place, other = next(turns), next(strangers)
        other = own[1 - place] if place < 2 else other
        frames = np.minimum(np.arange(len(episode.action)), len(other.action) - 1)
        return replace(episode, images={camera: seen[frames] for camera, seen in other.images.items()})

    front, _ = doctor("views", plant(pick, tmp_path / "d", change))
    assert "of another episode, in 2 of 9 scenes (0, 1), and 7 more are not alike; pair pictures" in front.sentence


def test_some_episodes_that_differ_from_the_rest_are_named(doctor, error, pick: Path, tmp_path: Path) -> None:
    found = doctor("cameras", plant(pick, tmp_path / "s", swapped, slice(2, 5)), simulated=False)
    said = "in 3 of 9 episodes (2, 3, 4) fits the other episodes as camera"
    assert [said in each.sentence for each in found] == [True, True]
    turned = plant(pick, tmp_path / "t", images(lambda v: v[:, ::-1, ::-1], "front"), slice(2, 5))
    told = error("cameras", turned, simulated=False)
    assert "camera 'front' in 3 of 9 episodes (2, 3, 4) fits the other episodes turned or mirrored" in told
    recoloured = plant(pick, tmp_path / "c", images(lambda v: v[..., ::-1], "front"), slice(2, 5))
    told = error("cameras", recoloured, simulated=False)
    assert "camera 'front' in 3 of 9 episodes (2, 3, 4) fits the other episodes with red and blue exchanged" in told


HALVES = {
    "fits the other episodes as camera": swapped,
    "fits the other episodes with red and blue exchanged": images(lambda v: v[..., ::-1], "front", "wrist"),
    "fits the other episodes turned or mirrored": images(lambda v: v[:, ::-1], "front", "wrist"),
}


@pytest.mark.parametrize("sentence", HALVES)
@pytest.mark.parametrize("some", [slice(4), slice(0, None, 2)])
def test_a_mixture_in_halves_is_told(sentence: str, some: slice, doctor, pick: Path, tmp_path: Path) -> None:
    """4 of 8: the median of all would be like neither half."""
    dataset = Dataset.open(pick)
    whole = episodes(dataset)[:8]
    whole[some] = [HALVES[sentence](episode) for episode in whole[some]]
    DatasetWriter(tmp_path / "d", dataset.spec, "png").append(*whole)
    found = doctor("cameras", tmp_path / "d", simulated=False)
    assert [each.severity for each in found] == ["error", "error"]
    assert all(sentence in each.sentence and "in 4 of 8" in each.sentence for each in found), found


def test_pictures_that_cannot_be_read_are_an_error(error, tmp_path: Path, pick: Path) -> None:
    def cut(values: np.ndarray) -> np.ndarray:
        return np.array([value | {"bytes": value["bytes"][:20]} for value in values])

    broken = rewrite(pick, tmp_path / "d", "observation.images.front", cut)
    assert "is not a readable image" in error("pictures", broken, simulated=False)
