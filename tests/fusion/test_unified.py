import pytest
import torch

from plait.fusion.unified import ActingLayer, MultiModalTransformer, TransformerBlock, UnifiedConfig
from plait.types import Shape, Tokens
from policies import random_batch, random_observation, small_policy

MASK = torch.arange(5) < torch.tensor([[5], [2]])


def small_model() -> MultiModalTransformer:
    torch.manual_seed(0)
    return MultiModalTransformer(d_model=16, n_heads=4, n_layers=2, vocabulary=50)


def test_padding_takes_no_part_and_the_mask_says_what_is_valid() -> None:
    block, x = TransformerBlock(16, 4), torch.randn(2, 5, 16)
    out = block(x, MASK)
    poisoned = block(torch.where(MASK[..., None], x, torch.nan), MASK)
    torch.testing.assert_close(poisoned[MASK], out[MASK])
    torch.testing.assert_close(out[1, :2], block(x[1:, :2])[0])  # as if the padding were cut off
    assert not torch.allclose(block(x, MASK)[1, :2], block(x)[1, :2], atol=1e-4), "without a mask all count"


def test_a_block_normalises_last() -> None:
    out = TransformerBlock(16, 4)(3 + 5 * torch.randn(2, 5, 16))
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(-1, correction=0), torch.ones(2, 5), atol=1e-3, rtol=0)


def test_padded_words_change_neither_image_nor_words() -> None:
    model, vision, words = small_model(), torch.randn(2, 9, 768), torch.randint(0, 50, (2, 5))
    output, seen, read = model(vision, words, text_mask=MASK)
    _, other_seen, other_read = model(vision, torch.where(MASK, words, 49), text_mask=MASK)
    torch.testing.assert_close(other_seen, seen)
    torch.testing.assert_close(other_read[MASK], read[MASK])
    assert torch.equal(output, torch.cat([seen, read], dim=1))


def test_patches_are_told_apart_by_their_place() -> None:
    _, seen, _ = small_model()(torch.ones(1, 9, 768), torch.ones(1, 5, dtype=torch.long))
    assert len(seen[0].unique(dim=0)) == 9


def test_more_patches_and_words_than_usual_are_refused_or_work() -> None:
    words = torch.ones(1, 600, dtype=torch.long)
    with pytest.raises(ValueError, match="300 patches, but only 196 have a place; build the model with patches=300"):
        small_model()(torch.randn(1, 300, 768), words[:, :5])
    with pytest.raises(ValueError, match="600 words, but only 512 have a place; build the model with words=600"):
        small_model()(torch.randn(1, 9, 768), words)
    larger = MultiModalTransformer(16, 4, 1, patches=300, words=600, vocabulary=50)
    assert larger(torch.randn(1, 300, 768), words)[0].shape == (1, 900, 16)


def test_the_weights_that_were_used_are_kept_on_request() -> None:
    policy = small_policy(fusion=UnifiedConfig(layers=2))
    inputs = policy.prepare(random_observation())
    reads = policy.fuse(inputs, reads=True).reads
    patches, words = 2 * 4 * 4, inputs.words.shape[1]  # two cameras, 8 x 8 patches made coarser
    n = patches + 1 + words
    assert {name: tuple(weights.shape) for name, weights in reads.items()} == {
        "attention.0": (3, 4, n, n),
        "attention.1": (3, 4, n, n),
    }
    padded = torch.cat([torch.zeros(3, patches + 1, dtype=torch.bool), ~inputs.word_mask], dim=1)
    assert reads["attention.1"].transpose(1, 3)[padded].eq(0).all()
    torch.testing.assert_close(reads["attention.1"].sum(-1), torch.ones(3, 4, n))


def test_action_tokens_come_out_alone_and_hear_everything() -> None:
    policy = small_policy(fusion=UnifiedConfig(actions=8, width=32))
    assert policy.fusion.shape.n == 8
    batch = random_batch(policy)
    assert policy.fuse(batch.inputs).tokens.data.shape == (3, 8, 32)
    policy.loss(batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.fusion.parameters())
    absent = {modality: torch.tensor([False, True, True]) for modality in policy.spec.modalities}
    whole = policy.predict(batch.inputs)
    for modality in absent:
        present = batch.inputs.present | {modality: absent[modality]}
        partial = policy.predict(type(batch.inputs)(**vars(batch.inputs) | {"present": present}))
        assert not torch.allclose(partial[0], whole[0], atol=1e-6), modality
        torch.testing.assert_close(partial[1:], whole[1:])


def test_action_tokens_are_told_where_in_each_camera_they_look() -> None:
    torch.manual_seed(0)
    layer, told = ActingLayer(16, 2, [(2, 2), (1, 3)], actions=2), []
    assert layer.where is not None
    layer.where.register_forward_pre_hook(lambda _, arguments: told.append(arguments[0]))
    x, mask = torch.randn(2, 4 + 3 + 5 + 2, 16), torch.ones(2, 14, dtype=torch.bool)  # two cameras, five words
    mask[1, 4:7] = False  # the second camera of the second row is missing
    out = layer(x, mask)
    weights = layer.weights(x, mask)[:, :, -2:]
    first = weights[..., :4] @ torch.tensor([[-0.5, -0.5, 1], [0.5, -0.5, 1], [-0.5, 0.5, 1], [0.5, 0.5, 1]])
    second = weights[..., 4:7] @ torch.tensor([[-2 / 3, 0, 1], [0, 0, 1], [2 / 3, 0, 1]])
    torch.testing.assert_close(told[0], torch.cat([first, second], dim=-1).transpose(1, 2).flatten(2))
    assert told[0].unflatten(-1, (2, 6))[1, ..., 3:].eq(0).all()
    torch.nn.init.zeros_(layer.where.weight)
    torch.testing.assert_close(layer(x, mask)[:, :-2], out[:, :-2])  # only the action tokens are told


def test_action_tokens_ask_what_the_instruction_says() -> None:
    policy = small_policy(fusion=UnifiedConfig(actions=8, layers=1))
    inputs, asked = policy.prepare(random_observation()), []
    policy.fusion.layers[0].register_forward_pre_hook(lambda _, arguments: asked.append(arguments[0][:, -8:]))
    policy.predict(inputs)
    other = policy.tokenizer.encode(["pick up the blue ball"] * 3)
    policy.predict(type(inputs)(**vars(inputs) | {"words": other[0], "word_mask": other[1]}))
    assert not torch.allclose(asked[0], asked[1], atol=1e-6)


def test_the_order_of_the_groups_does_not_matter() -> None:
    shapes = {"instruction": Shape(3, 8), "state": Shape(1, 8), "camera.front": Shape(16, 8, (4, 4))}
    groups = {name: Tokens.valid(torch.randn(2, shape.n, 8), shape.grid) for name, shape in shapes.items()}
    fusion = UnifiedConfig(dim=16, actions=2, stages=()).build(shapes)
    turned = dict(reversed(groups.items()))
    torch.testing.assert_close(fusion(turned).tokens.data, fusion(groups).tokens.data)
