import torch

from plait.fusion import FilmConfig
from policies import random_observation, small_policy


def test_the_words_change_what_is_seen() -> None:
    policy = small_policy(fusion=FilmConfig())
    observation = random_observation(rows=1)
    tokens = [
        policy.fuse(policy.prepare(type(observation)(observation.images, observation.state, [sentence]))).tokens.data
        for sentence in ("pick up the red ball", "put the green cube in the bowl")
    ]
    assert not torch.allclose(tokens[0][:, 0], tokens[1][:, 0], atol=1e-4), (
        "the camera's own token must depend on the words"
    )


def test_stages_halve_the_grid() -> None:
    policy = small_policy(image_size=64, fusion=FilmConfig(stages=(16, 24, 32), depth=2))
    assert len(policy.fusion.cameras["images_front"].blocks) == 6
    assert policy.predict(policy.prepare(random_observation())).isfinite().all()
