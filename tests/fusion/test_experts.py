from dataclasses import replace

import pytest
import torch

from plait.fusion import ExpertsConfig
from policies import random_batch, random_observation, small_policy


def test_the_balance_joins_the_loss_with_its_weight() -> None:
    policy = small_policy(fusion=ExpertsConfig(balance=0.5), keyframe=None)
    losses = policy.loss(random_batch(policy))
    assert losses["loss"].item() == pytest.approx((losses["action"] + losses["balance"]).item())
    assert 0.5 * 0.9 < losses["balance"].item() < 0.5 * 2, "1 is balance, 4 is one expert for everybody"


def test_padding_takes_no_part_in_routing_and_its_statistics() -> None:
    policy = small_policy(fusion=ExpertsConfig())
    inputs = policy.prepare(random_observation())
    other = replace(inputs, words=torch.where(inputs.word_mask, inputs.words, 3))
    plain, changed = policy.fuse(inputs, reads=True), policy.fuse(other, reads=True)
    torch.testing.assert_close(changed.losses, plain.losses)
    torch.testing.assert_close(changed.reads, plain.reads)


def test_reads_tell_which_experts_each_modality_uses() -> None:
    config = ExpertsConfig(layers=2, experts=5, top_k=2, stride=2)
    policy = small_policy(fusion=config)
    inputs = policy.prepare(random_observation())
    reads = policy.fuse(inputs, reads=True).reads
    assert set(reads) == {f"{what}.{layer}" for what in ("attention", "gates", "load") for layer in (0, 1)}
    tokens = 2 * 4 * 4 + 1 + inputs.words.shape[1]  # two cameras of 4 x 4 after thinning, the state, the words
    assert reads["gates.0"].shape == (3, tokens, 5) and reads["load.1"].shape == (3, 4, 5)
    assert reads["attention.0"].shape == (3, 4, tokens, tokens)
    torch.testing.assert_close(reads["load.1"].sum(-1), torch.full((3, 4), 2.0))
    assert reads["gates.0"][:, -16:].gt(0).sum(-1).eq(2 * inputs.word_mask).all(), "padding uses no expert"


def test_what_an_expert_does_for_one_row_does_not_depend_on_the_others() -> None:
    policy = small_policy(fusion=ExpertsConfig(top_k=1))
    observation = random_observation(rows=3)
    alone = replace(
        observation,
        images={name: image[:1] for name, image in observation.images.items()},
        state=observation.state[:1],
        instruction=observation.instruction[:1],
    )
    torch.testing.assert_close(
        policy.predict(policy.prepare(alone)), policy.predict(policy.prepare(observation))[:1], atol=1e-5, rtol=1e-5
    )
