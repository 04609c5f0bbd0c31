"""The rows of all processes that train together, with gradients."""

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from plait.data.world import World


def gathered(rows: Shaped[Tensor, "n *d"], world: World) -> Shaped[Tensor, "m *d"]:
    """The rows of all processes, in their order; each process must have equally many.

    Backward, every process gets the sum over all of them of the gradient of its own rows.
    """
    return rows if world.size == 1 else _Gather.apply(rows, world)  # pyright: ignore[reportReturnType]


def mean_over(value: Float[Tensor, ""], world: World) -> Float[Tensor, ""]:
    """The mean over the processes, the same in all of them."""
    return gathered(value[None], world).mean()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, world: World) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.world = world
        everything = rows.new_empty(world.size * len(rows), *rows.shape[1:])
        dist.all_gather(list(everything.chunk(world.size)), rows.contiguous())
        return everything

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return ctx.world.part(total), None
