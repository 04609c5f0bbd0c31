"""Fine-tuning takes what fits, words by their word, and names the rest."""

from dataclasses import replace

import pytest
import torch

from plait.encoders.language import HuggingFaceConfig, LstmConfig
from plait.encoders.tokenizer import Tokenizer
from plait.encoders.vision import PatchConfig
from plait.fusion import CrossAttentionConfig
from plait.heads import RegressionConfig
from plait.policy import Policy, PolicyConfig
from plait.train.initialise import initialise
from policies import SPEC, TEXT_MODEL, small_policy

OTHER = replace(SPEC, cameras={"front": (32, 32), "top": (32, 32)}, actions=("x", "y", "z", "gripper"))


def other_policy(**config: object) -> Policy:
    torch.manual_seed(7)
    statistics = {
        name: {"mean": torch.ones(n), "std": torch.ones(n)} for name, n in (("observation.state", 8), ("action", 4))
    }
    return PolicyConfig(image_size=32, **config).build(OTHER, Tokenizer.build(["lift the red ball"]), statistics)  # pyright: ignore


def test_other_cameras_and_actions_take_what_fits() -> None:
    source, policy = small_policy(), other_policy()
    fresh = {name: value.clone() for name, value in policy.state_dict().items()}
    told = initialise(policy, source)
    mine, theirs = policy.state_dict(), source.state_dict()
    for name in ("encoder.cameras.front.convolution.weight", "encoder.cameras.front.norm.running_mean"):
        assert torch.equal(mine[name], theirs[name])
    kept = ("normalise_action.mean", "normalise_state.mean", "keyframe.normalise.mean")  # they belong to the data
    for name in ("encoder.cameras.top.convolution.weight", *kept):
        assert torch.equal(mine[name], fresh[name])
    assert "starts anew: " in told and "encoder.cameras.top (" in told and "head.layers" in told
    assert "not used from the checkpoint: " in told and "encoder.cameras.wrist (" in told
    assert len(told.splitlines()) == 3


def test_word_vectors_go_by_their_word() -> None:
    source, policy = small_policy(), other_policy()
    fresh = policy.encoder.language.embedding.weight.clone()
    initialise(policy, source)
    mine, theirs = policy.encoder.language.embedding.weight, source.encoder.language.embedding.weight
    index, other = policy.tokenizer.vocabulary, source.tokenizer.vocabulary
    assert torch.equal(mine[index["red"]], theirs[other["red"]])
    assert torch.equal(mine[index["lift"]], fresh[index["lift"]])


def test_a_text_model_keeps_its_places_and_its_words() -> None:
    """Its other embeddings have no row for each word."""
    source, policy = (small_policy(seed, language=HuggingFaceConfig(TEXT_MODEL, frozen=False)) for seed in (0, 1))
    with torch.no_grad():
        for parameter in source.encoder.language.parameters():
            parameter.add_(torch.randn_like(parameter))
    initialise(policy, source)
    mine, theirs = policy.encoder.language.state_dict(), source.encoder.language.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_nothing_that_fits_is_an_error() -> None:
    policy = other_policy(
        vision=PatchConfig(width=7), language=LstmConfig(width=9), fusion=CrossAttentionConfig(24, width=12)
    )
    spec = replace(SPEC, cameras={"side": (32, 32)}, state=())
    source = PolicyConfig(image_size=32, keyframe=None, head=RegressionConfig(hidden=31)).build(
        spec, Tokenizer.build(["no"])
    )
    with pytest.raises(ValueError, match="no tensor of the checkpoint fits"):
        initialise(policy, source)
