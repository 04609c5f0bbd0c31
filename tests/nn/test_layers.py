import pytest
import torch

from plait.nn.film import FiLM
from plait.nn.normaliser import Normaliser
from plait.nn.pooling import masked_mean
from plait.nn.positions import grid_positions
from plait.nn.readout import readout
from plait.nn.transformer import TransformerLayer
from plait.types import Tokens


def test_masked_mean_ignores_padding() -> None:
    data = torch.tensor([[[1.0], [3.0], [torch.nan]], [[5.0], [torch.nan], [torch.nan]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(Tokens(data, mask)).flatten().tolist() == [2.0, 5.0]
    assert masked_mean(Tokens(data, torch.zeros(2, 3, dtype=torch.bool))).flatten().tolist() == [0.0, 0.0]


def test_film_scales_and_shifts_channels() -> None:
    film = FiLM(1, 2)
    film.scale_shift.weight.data = torch.tensor([[1.0], [0.0], [0.0], [5.0]])  # scales of 2 channels, then shifts
    out = film(torch.ones(1, 2, 3, 3), torch.tensor([[2.0]]))
    assert out[0, 0].eq(3).all() and out[0, 1].eq(11).all()


def test_normaliser_round_trips_and_leaves_constant_entries_finite() -> None:
    data = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    normaliser = Normaliser(data.mean(0), data.std(0))
    normalised = normaliser.normalise(data)
    assert normalised[:, 1].tolist() == [0.0, 0.0] and normalised[1, 0] > 0
    torch.testing.assert_close(normaliser.denormalise(normalised), data)
    assert normaliser.denormalise(normalised + 0.3)[:, 1].tolist() == [5.0, 5.0], "a prediction's error moves nothing"


def test_grid_positions_are_distinct_and_row_by_row() -> None:
    positions = grid_positions((3, 4), 16)
    assert positions.shape == (12, 16) and len(positions.unique(dim=0)) == 12
    assert torch.equal(positions[0, :8], positions[1, :8]), "the first half codes the row, which both share"
    with pytest.raises(ValueError, match="multiple of 4"):
        grid_positions((3, 4), 10)


@pytest.mark.parametrize("name", ["flatten", "mean"])
def test_readouts_give_one_token_on_any_grid(name: str) -> None:
    for grid in [(3, 5), (20, 12)]:
        assert readout(name, 6, grid, 10)(torch.randn(2, 6, *grid)).shape == (2, 10)


def test_flatten_knows_where_and_mean_does_not() -> None:
    left, right = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)
    left[:, :, 2, 1], right[:, :, 2, 6] = 1, 1
    flatten, mean = readout("flatten", 4, (8, 8), 5), readout("mean", 4, (8, 8), 5)
    assert not torch.allclose(flatten(left), flatten(right)) and torch.allclose(mean(left), mean(right))


def test_transformer_layer_ignores_padding() -> None:
    layer, x = TransformerLayer(16, 4), torch.randn(2, 5, 16)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    changed = torch.where(mask[..., None], x, 9.0)
    torch.testing.assert_close(layer(x, mask)[1, :2], layer(changed, mask)[1, :2])


def test_the_weights_of_a_transformer_layer_are_those_it_uses() -> None:
    layer, x, mask = TransformerLayer(8, 2), torch.randn(2, 5, 8), torch.arange(5) < torch.tensor([[5], [2]])
    _, values = layer.attention.key_value(layer.attention_norm(x)).unflatten(-1, (2, 2, 4)).unbind(dim=2)
    mixed = torch.einsum("bhnm,bmhe->bnhe", layer.weights(x, mask), values).flatten(2)
    x = x + layer.attention.output(mixed)
    torch.testing.assert_close(layer(x - layer.attention.output(mixed), mask), x + layer.mlp(layer.mlp_norm(x)))
