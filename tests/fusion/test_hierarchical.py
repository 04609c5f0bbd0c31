import pytest
import torch

from plait.fusion.hierarchical import HierarchicalConfig, HierarchicalMultiModal
from policies import random_observation, small_policy

VISION, WORDS = torch.randn(2, 196, 768), torch.randn(2, 20, 768)


@pytest.fixture(scope="module")
def model() -> HierarchicalMultiModal:
    torch.manual_seed(0)
    return HierarchicalMultiModal().eval()


@pytest.mark.parametrize("level", ["low", "mid"])
def test_both_lower_levels_enter_the_high_one(model: HierarchicalMultiModal, level: str) -> None:
    before = model(VISION, WORDS)
    silenced = getattr(model.fusion, level).register_forward_hook(
        lambda _, inputs, fused: type(fused)(type(fused.tokens)(0 * fused.tokens.data, fused.tokens.mask))
    )
    after = model(VISION, WORDS)
    silenced.remove()
    assert not torch.allclose(before, after, atol=1e-4)


def test_widths_are_those_of_the_tutorial(model: HierarchicalMultiModal) -> None:
    fusion = model.fusion
    assert fusion.low.fusion.join.weight.shape == (512, 1536) and fusion.shape.dim == 256
    assert len(fusion.mid.layers) == 1
    assert fusion.mid.layers[0].vision_norm.normalized_shape == (512,)
    assert len(fusion.high) == 3 and {layer.attention.heads for layer in fusion.high} == {8}


def test_padding_takes_no_part(model: HierarchicalMultiModal) -> None:
    mask = torch.arange(20) < torch.tensor([[20], [7]])
    poisoned = torch.where(mask[..., None], WORDS, torch.nan)
    torch.testing.assert_close(model(VISION, poisoned, text_mask=mask), model(VISION, WORDS, text_mask=mask))
    torch.testing.assert_close(model(VISION, WORDS, text_mask=mask)[1:], model(VISION[1:], WORDS[1:, :7]))


def test_more_patches_and_words_than_usual_are_refused_or_work(model: HierarchicalMultiModal) -> None:
    patches, words = torch.randn(1, 300, 768), torch.randn(1, 600, 768)
    with pytest.raises(ValueError, match="300 patches do not fill the grid of 14 x 14"):
        model(patches, WORDS[:1])
    with pytest.raises(ValueError, match="600 words, but only 512 have a place; build the model with words=600"):
        model(VISION[:1], words)
    assert HierarchicalMultiModal(grid=(15, 20), words=600)(patches, words).shape == (1, 7)


def test_a_policy_gets_the_low_token_per_modality_and_the_middle_ones() -> None:
    policy = small_policy(fusion=HierarchicalConfig(width=32, dim=32))
    fused = policy.fuse(policy.prepare(random_observation()), reads=True)
    assert fused.tokens.data.shape == (3, 8, 32) and policy.fusion.shape.n == 8
    assert {name.split(".")[0] for name in fused.reads} == {"vision_to_text", "text_to_vision"}
