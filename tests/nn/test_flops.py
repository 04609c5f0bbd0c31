"""What is counted, against closed forms."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from plait.nn.flops import RECURRENT, flops

ROWS, STEPS, LENGTHS, INPUTS, WIDTH = 3, 6, [6, 5, 2], 4, 5
GATES = {nn.LSTM: 4, nn.GRU: 3}
aten = torch.ops.aten


def expected(cell: type[nn.LSTM | nn.GRU], layers: int, moments: int = ROWS * STEPS) -> int:
    inputs = INPUTS + (layers - 1) * WIDTH  # of all layers together
    return 2 * moments * GATES[cell] * WIDTH * (inputs + layers * WIDTH)


def start(cell: type[nn.LSTM | nn.GRU], layers: int) -> int:
    """The gradient of the hidden state that a layer begins with, which is no one's: only fused kernels compute it."""
    return 2 * ROWS * GATES[cell] * WIDTH * WIDTH * layers


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_is_counted(cell: type[nn.LSTM | nn.GRU], layers: int) -> None:
    module, x = cell(INPUTS, WIDTH, layers, batch_first=True), torch.randn(ROWS, STEPS, INPUTS)
    assert flops(torch.inference_mode()(lambda: module(x))) == expected(cell, layers)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_a_packed_one_is_counted_without_its_padding(cell: type[nn.LSTM | nn.GRU], layers: int) -> None:
    module = cell(INPUTS, WIDTH, layers, batch_first=True)
    packed = pack_padded_sequence(torch.randn(ROWS, STEPS, INPUTS), torch.tensor(LENGTHS), batch_first=True)
    assert flops(torch.inference_mode()(lambda: module(packed))) == expected(cell, layers, sum(LENGTHS))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_the_backward_pass_is_twice_the_forward_pass(cell: type[nn.LSTM | nn.GRU], layers: int) -> None:
    module = cell(INPUTS, WIDTH, layers, batch_first=True)
    x = torch.randn(ROWS, STEPS, INPUTS, requires_grad=True)
    unfused = start(cell, layers) if cell is nn.GRU else 0
    assert flops(lambda: module(x)[0].sum().backward()) == 3 * expected(cell, layers) - unfused


@pytest.mark.parametrize("direction", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("projected", [0, 2])
@pytest.mark.parametrize("flat", [False, True])
def test_a_gpu_counts_the_same(direction: int, bias: bool, projected: int, flat: bool) -> None:
    """What cuDNN is given, by the kernel's signature; there is no GPU here. ``flat``: as autocast hands weights on."""
    module = nn.LSTM(INPUTS, WIDTH, 2, bias, bidirectional=direction == 2, proj_size=projected)
    weights = [(p.numel(), 1) if flat else tuple(p.shape) for layer in module.all_weights for p in layer]
    per_layer, out = len(module.all_weights[0]), projected or WIDTH
    layers = [4 * WIDTH * (inputs + out) + WIDTH * projected for inputs in (INPUTS, direction * out)]
    counted = 2 * ROWS * STEPS * direction * sum(layers)
    for moments in ((STEPS, ROWS, INPUTS), (ROWS, STEPS, INPUTS), (ROWS * STEPS, INPUTS)):
        assert RECURRENT[aten._cudnn_rnn](moments, weights, per_layer, None, out_val=None) == counted
        assert RECURRENT[aten._cudnn_rnn_backward](moments, weights, per_layer, None, out_val=None) == 2 * counted


@pytest.mark.parametrize("forward", ["mkldnn_rnn_layer", "_cudnn_rnn"])
def test_the_backward_pass_is_given_what_it_is_counted_by_in_the_same_places(forward: str) -> None:
    first, second = (
        [(str(given.type)) for given in getattr(aten, name).default._schema.arguments[:3]]
        for name in (forward, f"{forward}_backward")
    )
    assert first == second
