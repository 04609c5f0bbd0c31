from dataclasses import replace

import torch

from plait.fusion import BottleneckConfig
from policies import SPEC, random_observation, small_policy


def test_a_few_tokens_of_each_camera_go_on() -> None:
    policy = small_policy(fusion=BottleneckConfig(queries=3))
    fused = policy.fuse(policy.prepare(random_observation())).tokens
    assert fused.data.shape == (3, 2 * 3 + 2, 96)


def test_the_words_decide_what_is_passed_on() -> None:
    policy = small_policy(fusion=BottleneckConfig(layers=0))  # no attention afterwards that could carry the words
    observation = random_observation(rows=1)
    red, green = (
        policy.fuse(policy.prepare(replace(observation, instruction=[text]))).tokens.data
        for text in ("pick up the red ball", "put the green cube in the bowl")
    )
    assert (red - green)[:, :8].abs().max() > 1e-3, "the first camera's own tokens depend on the words"


def test_reads_tell_where_each_camera_s_queries_looked() -> None:
    policy = small_policy(fusion=BottleneckConfig(queries=3, looks=2, heads=4))
    inputs = policy.prepare(random_observation())
    absent = replace(inputs, present=inputs.present | {"images.front": torch.tensor([False, True, True])})
    reads = policy.fuse(absent, reads=True).reads
    assert set(reads) == {f"look.images.{camera}" for camera in SPEC.cameras}
    look = reads["look.images.front"]
    assert look.shape == (3, 2, 4, 3, 64)
    torch.testing.assert_close(look.sum(-1), torch.ones(3, 2, 4, 3))
    assert look[0, ..., 0].eq(1).all() and look[1].std(-1).min() > 0, "one absent token, or real patches"


def test_where_a_query_looked_reaches_the_tokens_and_can_be_left_out() -> None:
    with_place, without = (small_policy(fusion=BottleneckConfig(where=where)) for where in (True, False))
    assert any(".where." in name for name, _ in with_place.named_parameters())
    assert not any(".where." in name for name, _ in without.named_parameters())
