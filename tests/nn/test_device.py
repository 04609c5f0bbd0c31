"""Devices and number formats."""

import pytest
import torch

from plait.fusion import CrossAttentionConfig, FilmConfig
from plait.nn.device import convert_weights, has_bfloat16, pick_autocast, pick_device
from policies import random_observation, small_policy


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(1, device=pick_device("auto")).item() == 1


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"device 'cuda:99' cannot be used here .*say 'cpu'"):
        pick_device("cuda:99")


def test_a_device_that_there_is_nowhere() -> None:
    with pytest.raises(ValueError, match=r"^no device 'cudaa'; say auto, cpu, cuda, cuda:1, \.\.\.$"):
        pick_device("cudaa")


def test_precision_is_what_was_asked_for_or_what_the_processor_has() -> None:
    cpu = torch.device("cpu")
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for precision, expected in {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "auto": torch.bfloat16 if has_bfloat16(cpu) else torch.float32,
    }.items():
        with pick_autocast(precision, cpu):
            assert layer(x).dtype == expected


@torch.no_grad()
def test_weights_converted_once_are_those_that_autocast_converts_at_every_call() -> None:
    for fusion in (FilmConfig(), CrossAttentionConfig()):
        policy = small_policy(fusion=fusion)
        inputs, inside = policy.prepare(random_observation()), pick_autocast("bfloat16", torch.device("cpu"))
        with inside:
            before = policy(inputs)
        convert_weights(policy, torch.bfloat16)
        assert policy.normalise_action.mean.dtype == torch.float32
        assert {weight.dtype for weight in policy.parameters()} == {torch.float32, torch.bfloat16}
        with inside:
            assert torch.equal(policy(inputs), before)
