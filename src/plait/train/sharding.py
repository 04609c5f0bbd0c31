"""Sharded training: each process keeps its part of the weights, their average, the gradients and the moments.

FSDP2 (https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html) gathers the weights of a block while it
is computed, and averages the gradients over the processes. All must call the same blocks in the same order.

Its modules are imported where they are used: they take a second, which every other training would wait for.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from plait.encoders.recall import Recall


def shard(model: nn.Module) -> None:
    """Divide the parameters of ``model``, which are whole and the same in all processes, among them.

    ``model.loss`` works as before. So do ``state_dict`` and ``load_state_dict``, on whole tensors; all processes call
    them together, and only the first one gets the tensors.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for module in model.modules():
        if isinstance(getattr(module, "recall", None), Recall):  # it watches the whole weights, and skips blocks
            module.__dict__["recall"] = _compute
        if isinstance(module, nn.RNNBase):  # on a GPU it would move gathered weights to where nothing is gathered
            module.__dict__["flatten_parameters"] = _stay
    model.to(memory_format=torch.contiguous_format)  # FSDP divides no other
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for part in [*_blocks(model), model]:
        fully_shard(part, mesh=mesh)
    register_fsdp_forward_method(model, "loss")
    model.register_state_dict_post_hook(_gather)
    model.register_load_state_dict_pre_hook(_divide)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within this, every process has the whole weights, and may call the model as often as it likes."""
    if not any(map(is_divided, model.parameters())):
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.set_reshard_after_forward(True, recurse=False)
        part.reshard()


def is_divided(value: Tensor) -> bool:
    return hasattr(value, "full_tensor")  # a DTensor


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be divided; then all processes call this together."""
    return cast(Any, value).full_tensor() if is_divided(value) else value


def own(value: Tensor) -> Tensor:
    """This process's part of a tensor that may be divided, in the same memory."""
    return cast(Any, value).to_local() if is_divided(value) else value


def divided(value: Tensor, like: Tensor) -> Tensor:
    """``value``, whole and the same in all processes, divided as ``like`` is."""
    if not is_divided(like):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """What is repeated in a chain: the blocks of transformers, the residual blocks of convolutional networks."""
    is_chain = isinstance(module, nn.Sequential | nn.ModuleList)
    kinds = Counter(map(type, module.children()))
    for child in module.children():
        if is_chain and kinds[type(child)] > 1 and any(child.children()):
            yield child
        else:
            yield from _blocks(child)


def _gather(model: nn.Module, state: dict[str, Any], *_: Any) -> None:
    for name, value in state.items():
        everything = whole(value)
        state[name] = everything.cpu() if dist.get_rank() == 0 else torch.empty(0)  # no memory for what is not written


def _divide(model: nn.Module, state: dict[str, Any], *_: Any) -> None:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        state[name] = divided(state[name], parameter)


def _compute(words: Tensor, mask: Tensor, encode: Any) -> Tensor:
    return encode(words, mask)


def _stay() -> None:
    pass
