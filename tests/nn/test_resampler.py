import torch

from plait.nn.positions import grid_coordinates
from plait.nn.resampler import Resampler
from plait.types import Tokens

MASK = torch.arange(9) < torch.tensor([[9], [4]])
TOKENS = Tokens(torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0)), MASK)
WORDS = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))


def _resampler() -> Resampler:
    torch.manual_seed(0)
    return Resampler(dim=16, condition_dim=6, queries=3, heads=4)


def test_any_number_of_tokens_becomes_a_few() -> None:
    assert _resampler()(TOKENS, WORDS).shape == (2, 3, 16)
    long = Tokens(torch.randn(2, 700, 16), torch.ones(2, 700, dtype=torch.bool))
    assert _resampler()(long, WORDS).shape == (2, 3, 16)


def test_padding_takes_no_part() -> None:
    resampler = _resampler()
    garbage = Tokens(torch.where(MASK[..., None], TOKENS.data, torch.nan), MASK)
    torch.testing.assert_close(resampler(garbage, WORDS), resampler(TOKENS, WORDS))
    weights = resampler.weights(TOKENS, WORDS)
    assert weights.shape == (2, 2, 4, 3, 9) and weights[1, ..., 4:].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 4, 3))


def test_the_words_decide_where_the_queries_look() -> None:
    resampler = _resampler()
    here, there = resampler.weights(TOKENS, WORDS), resampler.weights(TOKENS, -WORDS)
    assert (here - there).abs().max() > 1e-3


def test_the_weights_are_those_that_are_used() -> None:
    resampler = _resampler()
    _, value = resampler.layers[0].attention.key_value(resampler.context_norm(TOKENS.data)).chunk(2, dim=-1)
    value = value.unflatten(-1, (4, 4)).transpose(1, 2)
    mixed = (resampler.weights(TOKENS, WORDS)[:, 0] @ value).transpose(1, 2).flatten(2)
    layer, (x, context) = resampler.layers[0], resampler._start(TOKENS, WORDS)
    torch.testing.assert_close(
        layer.attention.output(mixed), layer.attention(layer.query_norm(x), context, MASK), atol=1e-5, rtol=1e-5
    )


def test_each_query_is_told_the_mean_place_that_each_head_looked_at() -> None:
    torch.manual_seed(0)
    resampler = Resampler(dim=16, condition_dim=6, queries=3, heads=4, layers=1, grid=(3, 3))
    layer = resampler.layers[0]
    told: list[torch.Tensor] = []
    layer.where.register_forward_pre_hook(lambda _, arguments: told.append(arguments[0]))  # pyright: ignore
    resampler(TOKENS, WORDS)
    weights = resampler.weights(TOKENS, WORDS)[:, 0]
    places = grid_coordinates((3, 3))
    for head in range(4):
        expected = (weights[:, head, :, :, None] * places).sum(2)
        torch.testing.assert_close(told[0][..., 2 * head : 2 * head + 2], expected)


def test_coordinates_go_from_the_upper_left_to_the_lower_right() -> None:
    places = grid_coordinates((2, 4))
    assert places.tolist()[:5] == [[-0.75, -0.5], [-0.25, -0.5], [0.25, -0.5], [0.75, -0.5], [-0.75, 0.5]]
