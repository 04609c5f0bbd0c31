import torch

from plait.fusion.late import LateConfig, LateFusion
from plait.types import Observation
from policies import random_observation, small_policy


def test_every_size_of_the_tutorials_class_has_an_effect() -> None:
    fusion = LateFusion(vision_dim=6, text_dim=3, hidden_dim=5)
    assert fusion.vision.weight.shape == (5, 6) and fusion.text.weight.shape == (5, 3)
    assert fusion(torch.randn(2, 6), torch.randn(2, 3)).shape == (2, 256)


def test_each_vector_is_bent_before_it_is_joined() -> None:
    fusion, entered = LateFusion(), []
    fusion.join[1].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    fusion(torch.ones(1, 768), torch.ones(1, 768))
    assert entered[0].shape == (1, 1024) and entered[0].min() == 0, "two linear layers in a row would be early fusion"


def test_words_join_only_after_the_images_were_encoded() -> None:
    policy = small_policy(fusion=LateConfig())
    normal, encoded, fused = random_observation(rows=1), [], []
    for camera in policy.fusion.cameras.values():
        camera.register_forward_hook(lambda _, inputs, output: encoded.append(output))
    for instruction in ("pick up the red ball", "put the green cube in the bowl"):
        observation = Observation(normal.images, normal.state, [instruction])
        fused.append(policy.fuse(policy.prepare(observation)).tokens.data)
    assert torch.equal(encoded[0], encoded[2]) and torch.equal(encoded[1], encoded[3])
    assert not torch.allclose(fused[0][:, 0], fused[1][:, 0], atol=1e-5), "after the join, a camera's token knows them"
