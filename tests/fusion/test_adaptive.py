import torch

from plait.fusion.adaptive import AdaptiveConfig
from plait.policy import Policy
from plait.types import Observation, Tokens
from policies import SPEC, random_observation, small_policy


def policy_of_one_row() -> tuple[Policy, Observation]:
    return small_policy(fusion=AdaptiveConfig()), random_observation(rows=1)


def gates(policy: Policy, observation: Observation) -> torch.Tensor:
    return policy.fuse(policy.prepare(observation), reads=True).reads["gates"]


def test_one_gate_per_modality_is_read() -> None:
    found = gates(small_policy(fusion=AdaptiveConfig()), random_observation(rows=3))
    assert found.shape == (3, len(SPEC.modalities)) and found.gt(0).all() and found.lt(1).all()


def test_instruction_image_and_state_move_the_gates() -> None:
    policy, normal = policy_of_one_row()
    dark = {camera: torch.zeros_like(image) for camera, image in normal.images.items()}
    for other in (
        Observation(normal.images, normal.state, ["put the green cube in the bowl"]),
        Observation(dark, normal.state, normal.instruction),
        Observation(normal.images, normal.state + 1, normal.instruction),
    ):
        assert not torch.allclose(gates(policy, other), gates(policy, normal), atol=1e-4)


def test_a_closed_gate_lets_nothing_of_its_modality_past() -> None:
    policy, normal = policy_of_one_row()
    groups = policy.encoder(policy.prepare(normal))
    last = policy.fusion.gate[-2]
    for index, name in enumerate(groups):
        closed = torch.zeros(len(groups))
        closed[index] = -torch.inf
        with torch.no_grad():
            last.weight.zero_(), last.bias.copy_(closed)
        tokens = groups[name]
        others = groups | {name: Tokens(torch.randn_like(tokens.data), tokens.mask, tokens.grid)}
        torch.testing.assert_close(policy.fusion(others).tokens.data, policy.fusion(groups).tokens.data)
        with torch.no_grad():
            last.bias.zero_()
        assert not torch.allclose(policy.fusion(others).tokens.data, policy.fusion(groups).tokens.data, atol=1e-3)
