"""How much a call computes."""

from collections.abc import Callable
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def flops(call: Callable[[], Any]) -> int:
    """Multiplications and additions in matrix products, convolutions and attention.

    Counted with plain attention: the fused kernels of a CPU are not known to the counter. The sum is the same.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
