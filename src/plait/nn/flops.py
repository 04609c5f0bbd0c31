"""How much a call computes."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
Size = tuple[int, ...]


def flops(call: Callable[[], Any]) -> int:
    """Multiplications and additions in matrix products, convolutions, attention and recurrent layers.

    Counted with plain attention: the fused kernels of a CPU are not known to the counter. The sum is the same.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=RECURRENT) as counter:
        call()
    return counter.get_total_flops()


def _recurrent(moments: Size, matrices: list[Size]) -> int:
    """Each of the moments, [t, b, d], or [all of them, d] when packed, goes once through every matrix."""
    return 2 * prod(moments[:-1]) * sum(map(prod, matrices))


def _mkldnn(moments: Size, of_input: Size, of_hidden: Size, *_: Any, **__: Any) -> int:
    """One layer in one direction of an LSTM on a CPU; that of a GRU is made of products that the counter knows."""
    return _recurrent(moments, [of_input, of_hidden])


def _cudnn(moments: Size, weights: list[Size], per_layer: int, *_: Any, **__: Any) -> int:
    """All layers: the matrices of the input and the hidden state of each, its two biases, and that of the projection.

    What is a bias is told by its place, for under autocast all of them are columns of numbers.
    """
    return _recurrent(moments, [each for i, each in enumerate(weights) if per_layer < 4 or i % per_layer not in (2, 3)])


def _twice(forward: Callable[..., int]) -> Callable[..., int]:
    """The backward pass: the gradients of the inputs and of the weights. It is given both first, as forward is."""
    return lambda *given, **named: 2 * forward(*given, **named)


RECURRENT: dict[Any, Callable[..., int]] = {  # the fused kernels, which the counter does not know
    aten.mkldnn_rnn_layer: _mkldnn,
    aten.mkldnn_rnn_layer_backward: _twice(_mkldnn),
    aten._cudnn_rnn: _cudnn,
    aten._cudnn_rnn_backward: _twice(_cudnn),
}
