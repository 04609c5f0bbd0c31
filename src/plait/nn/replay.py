"""A function of tensors as one CUDA graph: a small policy is hundreds of tiny kernels, whose launching is the cost."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

WARM_UP = 3  # calls that run as usual first, so that libraries have chosen their kernels and allocated workspaces


class Replay:
    """Calls ``function`` a few times, then records it and replays the recording.

    Args:
        function: of one argument, a registered pytree of tensors on one GPU with the same shapes at every call.
            Whatever else it reads or changes must keep its memory, and it may not wait for the GPU. What
            it returns is copied tensor by tensor.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function, self.calls = function, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, argument: Any) -> Any:
        if self.calls < WARM_UP:
            self.calls += 1
            return self._beside(argument)
        tensors, structure = pytree.tree_flatten(argument)
        if self.graph is None:
            self._inputs = [tensor.clone() for tensor in tensors]
            types = [tensor.dtype for tensor in tensors]
            self._alike = [[i for i, of in enumerate(types) if of == each] for each in dict.fromkeys(types)]
            self.graph = self._record(pytree.tree_unflatten(self._inputs, structure))
        for mine, new in zip(self._inputs, tensors, strict=True):
            if mine.shape != new.shape:  # copying would repeat a row for all
                raise ValueError(
                    f"a tensor of shape {tuple(new.shape)}; {tuple(mine.shape)} was recorded, and is replayed"
                )
        for places in self._alike:  # one kernel for all of a type
            mine, new = ([of[i] for i in places] for of in (self._inputs, tensors))
            torch._foreach_copy_(mine, new, non_blocking=True)  # pyright: ignore[reportPrivateImportUsage]
        self.graph.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, self._result)  # the next replay overwrites it

    def _beside(self, argument: Any) -> Any:
        """On a side stream, as a recording demands of what was run before it."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self.function(argument)
        current.wait_stream(stream)
        return result

    def _record(self, argument: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads work meanwhile
            self._result = self.function(argument)
        return graph
