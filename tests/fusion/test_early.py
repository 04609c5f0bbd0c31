import torch

from plait.fusion.early import EarlyConfig, EarlyFusion
from plait.types import Observation
from policies import random_observation, small_policy


def test_every_size_of_the_tutorials_class_has_an_effect() -> None:
    fusion = EarlyFusion(vision_dim=6, text_dim=3, hidden_dim=5)
    assert fusion.join.weight.shape == (5, 9)
    assert fusion(torch.randn(2, 6), torch.randn(2, 3)).shape == (2, 256)


def test_words_and_state_meet_the_pixels_before_the_first_block() -> None:
    policy, normal = small_policy(fusion=EarlyConfig()), random_observation(rows=1)
    entered: list[torch.Tensor] = []
    for camera in policy.fusion.cameras.values():
        camera.blocks[0].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    for words, state in (("", normal.state), ("pick up the red ball", normal.state), ("", normal.state + 1)):
        policy.fuse(policy.prepare(Observation(normal.images, state, [words])))
    for camera in range(2):
        quiet, told, felt = entered[camera::2]
        assert not torch.allclose(quiet, told) and not torch.allclose(quiet, felt)
