"""Random numbers for the rows of a batch, the same whichever process has which rows.

Processes that train together are seeded alike: each draws for the whole batch, in the order of the processes, and keeps
its own rows. In validation each has whole batches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

_whole = False  # whether a batch lies in one process


@contextmanager
def whole_batches() -> Iterator[None]:
    """In this block a batch is not divided among the processes."""
    global _whole
    before, _whole = _whole, True
    try:
        yield
    finally:
        _whole = before


def own_rows(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """This process's ``rows`` of what ``draw`` gives for all.

    >>> own_rows(lambda rows: torch.zeros(rows, 7), 2).shape
    torch.Size([2, 7])
    """
    if _whole or not (distributed.is_available() and distributed.is_initialized()):
        return draw(rows)
    first = distributed.get_rank() * rows
    return draw(distributed.get_world_size() * rows)[first : first + rows]


def normal_like(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Standard normal."""
    return own_rows(lambda rows: torch.randn(rows, *x.shape[1:], dtype=x.dtype, device=x.device), len(x))


def uniform_like(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """From 0 to 1, float32 whatever ``x`` is: in 16 bits, few numbers are near 0."""
    return own_rows(lambda rows: torch.rand(rows, *x.shape[1:], device=x.device), len(x))


class Dropout(nn.Dropout):
    """PyTorch's, but for what it draws."""

    def forward(self, input: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if not self.training or self.p == 0:
            return input
        return input * (uniform_like(input) >= self.p) / (1 - self.p)
