"""What a sharded policy is made of; that it trains as a whole one does is in test_distributed.py."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from plait.encoders.language import HuggingFaceConfig, LstmConfig, TextTransformerConfig
from plait.encoders.vision import TimmConfig
from plait.fusion import FilmConfig, UnifiedConfig
from plait.policy import Policy
from plait.train.sharding import gathered, is_divided, own, shard, whole
from policies import TEXT_MODEL, random_batch, small_policy


@pytest.fixture(autouse=True)
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def blocks(policy: Policy) -> Counter[str]:
    """How often each class of module is gathered on its own."""
    return Counter(type(module).__mro__[2].__name__ for module in policy.modules() if isinstance(module, FSDPModule))


def test_repeated_blocks_are_gathered_one_by_one() -> None:
    parts = {"vision": TimmConfig("test_vit"), "language": TextTransformerConfig(), "fusion": UnifiedConfig(layers=2)}
    policy = small_policy(**parts)
    cameras, language = len(policy.spec.cameras), len(policy.encoder.language.layers)
    shard(policy)
    assert blocks(policy) == {"Block": 6 * cameras, "TransformerLayer": language + 2, "Policy": 1}


def test_convolutions_in_the_memory_format_of_training_are_sharded() -> None:
    policy = small_policy(fusion=FilmConfig(stages=(8, 8))).to(memory_format=torch.channels_last)
    before = policy.loss(random_batch(policy))["loss"]
    shard(policy)
    assert blocks(policy)["FilmBlock"] == 2 * len(policy.spec.cameras)
    torch.testing.assert_close(policy.loss(random_batch(policy))["loss"], before)


def test_a_recurrent_encoder_does_not_keep_its_first_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first forward pass, cuDNN would move the gathered weights to memory that is never gathered again."""

    def flatten(lstm: nn.LSTM) -> None:  # as on a GPU; elsewhere it does nothing
        for weight in lstm.parameters():
            if not is_divided(weight):
                weight.data = weight.detach().clone()

    monkeypatch.setattr(nn.LSTM, "flatten_parameters", flatten)
    policy = small_policy(language=LstmConfig())
    shard(policy)
    batch = random_batch(policy)
    before = policy.loss(batch)["loss"]
    before.backward()  # after which the weights are dropped
    with torch.no_grad():
        for weight in policy.encoder.language.lstm.parameters():
            own(weight).mul_(3)
    assert (policy.loss(batch)["loss"] - before).abs() > 1e-3


def test_state_dict_is_whole_on_both_sides() -> None:
    policy, other = small_policy(seed=0), small_policy(seed=1)
    names = [name for name, _ in policy.named_parameters()]
    shard(policy)
    policy.load_state_dict(other.state_dict())
    for name, value in policy.state_dict().items():
        assert type(value) is torch.Tensor and torch.equal(value, other.state_dict()[name]), name
    assert [name for name, _ in policy.named_parameters()] == names
    weight = next(policy.parameters())
    assert torch.equal(whole(weight), own(weight)), "one process has all of it"


def test_gathered_weights_are_the_newest() -> None:
    """A language encoder recalls sentences for as long as its weights stay; sharded ones are written to elsewhere."""
    policy = small_policy(language=HuggingFaceConfig(TEXT_MODEL, frozen=False))
    batch = random_batch(policy)
    shard(policy)
    for _ in range(2):
        with torch.no_grad(), gathered(policy):
            loss = policy.loss(batch)["loss"]
        fresh = small_policy(seed=1, language=HuggingFaceConfig(TEXT_MODEL, frozen=False))
        fresh.load_state_dict(policy.state_dict())
        torch.testing.assert_close(loss, fresh.loss(batch)["loss"])
        with torch.no_grad():
            for weight in policy.encoder.language.parameters():
                own(weight).add_(0.1)
