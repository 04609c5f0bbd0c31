import torch

from plait.fusion.cross_attention import CrossAttentionConfig, CrossModalAttention
from policies import random_observation, small_policy

VISION, TEXT = torch.randn(2, 9, 16), torch.randn(2, 5, 16)
TEXT_MASK = torch.arange(5) < torch.tensor([[5], [2]])


def test_both_directions_read_the_inputs_not_each_other() -> None:
    layer = CrossModalAttention(16, 4)
    _, text = layer(VISION, TEXT)
    expected = layer.text_norm(TEXT + layer.text_to_vision(TEXT, VISION, torch.ones(2, 9, dtype=torch.bool)))
    torch.testing.assert_close(text, expected)


def test_padded_words_have_no_weight_and_patches_are_told_apart() -> None:
    weights = CrossModalAttention(16, 4).weights(VISION, TEXT, text_mask=TEXT_MASK)
    assert weights["vision_to_text"].shape == (2, 4, 9, 5) and weights["text_to_vision"].shape == (2, 4, 5, 9)
    assert weights["vision_to_text"][1, :, :, 2:].eq(0).all()
    assert weights["text_to_vision"].std(dim=-1).min() > 0, "one pooled image token would make every weight 1"


def test_padding_takes_no_part_not_even_nan() -> None:
    layer = CrossModalAttention(16, 4)
    vision, text = layer(VISION, TEXT, text_mask=TEXT_MASK)
    poisoned = torch.where(TEXT_MASK[..., None], TEXT, torch.nan)
    torch.testing.assert_close(layer(VISION, poisoned, text_mask=TEXT_MASK), (vision, text))
    torch.testing.assert_close(vision[1:], layer(VISION[1:], TEXT[1:, :2])[0])


def test_more_patches_and_words_than_the_tutorial_has() -> None:
    vision, text = CrossModalAttention(16, 4)(torch.randn(1, 300, 16), torch.randn(1, 600, 16))
    assert vision.shape == (1, 300, 16) and text.shape == (1, 600, 16)


def test_the_reads_cover_every_layer_and_every_camera() -> None:
    policy = small_policy(fusion=CrossAttentionConfig(layers=2))
    reads = policy.fuse(policy.prepare(random_observation()), reads=True).reads
    assert set(reads) == {f"{way}.{layer}" for way in ("vision_to_text", "text_to_vision") for layer in (0, 1)}
    patches = sum(shape.n for name, shape in policy.encoder.shapes.items() if name.startswith("images."))
    assert reads["text_to_vision.1"].shape == (3, 4, 16 + 1, patches)  # 16 words and the state look at all patches
