import torch

from plait.diagnose.masking import hidden, highest, masking
from plait.policy import Policy
from policies import random_observation, small_policy


def corner_policy() -> Policy:
    """It acts on nothing but the front picture's upper left corner, 8 pixels wide."""
    policy = small_policy()

    def forward(inputs):
        seen = inputs.images["front"][:, :8, :8].float().mean(dim=(1, 2, 3)) / 255
        return seen[:, None, None].expand(-1, policy.horizon, len(policy.spec.actions))

    policy.forward = forward
    return policy


def test_a_map_of_what_counts_matters() -> None:
    policy = corner_policy()
    inputs = policy.prepare(random_observation(12))
    maps = torch.zeros(12, 8, 8)
    maps[:, :2, :2] = torch.rand(12, 2, 2) + 1  # cells of 4 pixels
    found = masking(policy, inputs, {"front": maps})
    assert found["ratio"] > 5 and found["ratio_ci95"][0] > 3
    assert found["top"] > found["random"] > 0


def test_a_random_map_is_found_out() -> None:
    policy = corner_policy()
    inputs = policy.prepare(random_observation(40))
    generator = torch.Generator().manual_seed(3)
    maps = {camera: torch.rand(40, 8, 8, generator=generator) for camera in ("front", "wrist")}
    low, high = masking(policy, inputs, maps)["ratio_ci95"]
    assert low < 1 < high


def test_a_map_of_what_does_not_count_is_found_out() -> None:
    policy = corner_policy()
    maps = torch.zeros(6, 8, 8)
    maps[:, 5:, 5:] = 1.0
    found = masking(policy, policy.prepare(random_observation(6)), {"front": maps})
    assert found["top"] == found["ratio"] == 0.0


def test_patches_are_hidden_under_the_mean_colour() -> None:
    pictures = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    pictures[:, :, :4] = 200
    patches = torch.zeros(1, 4, 4, dtype=torch.bool)
    patches[0, 1, 0] = True
    after = hidden(pictures, patches)
    assert (after[0, 2:4, 0:2] == 100).all()
    assert (after != pictures).sum() == 4 * 3


def test_at_least_one_patch_is_the_highest() -> None:
    maps = torch.arange(16.0).view(1, 4, 4)
    assert highest(maps, 0.01).nonzero().tolist() == [[0, 3, 3]]
    assert highest(maps, 0.25).sum() == 4
