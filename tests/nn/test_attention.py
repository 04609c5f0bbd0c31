import pytest
import torch
from torch import nn

from plait.nn.attention import Attention

X, CONTEXT = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
MASK = torch.arange(7) < torch.tensor([[7], [3]])


def test_it_equals_torch_multihead_attention() -> None:
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key_value.weight])
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, ours.key_value.bias])
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    # torch's mask says what to ignore, ours what is valid: handing one over as the other is a classic fault
    expected, weights = theirs(X, CONTEXT, CONTEXT, key_padding_mask=~MASK, average_attn_weights=False)
    torch.testing.assert_close(ours(X, CONTEXT, MASK), expected)
    torch.testing.assert_close(ours.weights(X, CONTEXT, MASK), weights)


def test_weights_are_zero_on_padding_and_sum_to_one() -> None:
    weights = Attention(16, 4).weights(X, CONTEXT, MASK)
    assert weights[1, :, :, 3:].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))


def test_a_row_with_nothing_valid_gives_zeros() -> None:
    nothing = torch.tensor([[True] * 7, [False] * 7])
    attention = Attention(16, 4)
    out = attention(X, CONTEXT, nothing)
    assert out[0].any() and not out[1].any()
    assert not attention.weights(X, CONTEXT, nothing)[1].any()


def test_a_mask_per_position_equals_one_mask_for_each_of_them() -> None:
    attention, causal = Attention(16, 4), torch.ones(5, 7, dtype=torch.bool).tril(-1).expand(2, -1, -1)
    out, weights = attention(X, CONTEXT, causal), attention.weights(X, CONTEXT, causal)
    for n in range(5):
        torch.testing.assert_close(out[:, n : n + 1], attention(X[:, n : n + 1], CONTEXT, causal[:, n]))
        assert weights[:, :, n, n:].eq(0).all()
    assert not out[:, 0].any(), "nothing comes before the first"


def test_no_mask_is_a_mask_in_which_everything_is_valid() -> None:
    attention, everything = Attention(16, 4), torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(attention(X, CONTEXT, None), attention(X, CONTEXT, everything))
    torch.testing.assert_close(attention.weights(X, CONTEXT, None), attention.weights(X, CONTEXT, everything))


def test_what_is_read_once_serves_any_queries() -> None:
    attention = Attention(16, 4)
    read = attention.read(CONTEXT, MASK)
    for x in (X, X[:, :2] + 1):
        torch.testing.assert_close(attention.attend(x, read), attention(x, CONTEXT, MASK), atol=0, rtol=0)


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(ValueError, match="10 cannot be split over 4 heads"):
        Attention(10, 4)
