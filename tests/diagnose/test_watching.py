"""The film of a real rollout: a frame for every step, maps that change when the policy predicts, words above them."""

import numpy as np
import pytest
from PIL import Image

from plait.diagnose.heatmaps import heatmaps
from plait.diagnose.watching import ACROSS, NARROW, WIDE, titles, watch
from plait.evaluate.worker import Scenes
from plait.fusion import CrossAttentionConfig, FilmConfig
from plait.policy import Policy
from plait.types import Observation
from policies import random_observation, small_policy
from reach_env import ID, REACH


def reach_policy(**config: object) -> Policy:
    return small_policy(spec=REACH, image_size=16, action_horizon=4, execute=3, **config)


def test_a_frame_for_every_step_and_a_map_for_every_prediction() -> None:
    film = watch(reach_policy(fusion=FilmConfig()), Scenes(ID, (1, 2)), 1)
    assert film.instruction in ("go left", "go right")
    assert len(film.frames) in range(2, 14)
    first = film.frames[0]
    assert all(frame.size == first.size for frame in film.frames)
    right = [np.asarray(frame.crop((first.width // 2, 60, first.width, first.height - 30))) for frame in film.frames]
    changes = [step for step in range(1, len(right)) if not np.array_equal(right[step], right[step - 1])]
    assert changes
    assert all(step % 3 == 0 for step in changes), "the map belongs to a prediction, every third step"


def test_tiles_of_many_words_are_wrapped() -> None:
    single = watch(reach_policy(fusion=FilmConfig()), Scenes(ID, (1,)), 0).frames[0]
    each = watch(reach_policy(fusion=CrossAttentionConfig(dim=32)), Scenes(ID, (1,)), 0).frames[0]
    assert single.width > 2 * WIDE and each.width > 3 * NARROW, "the picture and one map; the picture and two words"
    assert ACROSS * (NARROW + 2) < 600, "it fits a page"


@pytest.mark.parametrize(("said", "shown"), [("pick up the RED ball!", ["pick", "up", "the", "red", "ball"]), ("", 1)])
def test_the_words_are_those_that_the_policy_hears(said: str, shown: object) -> None:
    policy = small_policy(fusion=CrossAttentionConfig(dim=32))
    seen = random_observation(1)
    inputs = policy.prepare(Observation(seen.images, seen.state, [said]))
    found = titles(heatmaps(policy, inputs), policy, inputs)
    assert found == shown or len(found) == shown


def test_frames_are_pictures_that_a_film_takes() -> None:
    frame = watch(reach_policy(fusion=FilmConfig()), Scenes(ID, (1,)), 0).frames[-1]
    assert isinstance(frame, Image.Image) and frame.mode == "RGB"
