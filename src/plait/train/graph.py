"""One update as one CUDA graph: a small policy's step is hundreds of tiny kernels, and launching them is the cost."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

WARM_UP = 3  # updates that run as usual first, so that libraries have chosen their kernels and allocated workspaces

Update = Callable[[Any], dict[str, Tensor]]


class CapturedUpdate:
    """Calls ``update`` a few times, then records it and replays the recording on every further batch.

    Args:
        update: a batch -> scalars, all on one GPU. Whatever it changes (weights, moments, statistics) must keep its
            memory, and it may not wait for the GPU. Every batch has the same shapes; batches are registered pytrees.
    """

    def __init__(self, update: Update) -> None:
        self.update, self.calls = update, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        if self.calls < WARM_UP:
            self.calls += 1
            return self._beside(batch)
        tensors, structure = pytree.tree_flatten(batch)
        if self.graph is None:
            self._inputs = [tensor.clone() for tensor in tensors]
            self.graph = self._record(pytree.tree_unflatten(self._inputs, structure))
        for mine, new in zip(self._inputs, tensors, strict=True):
            mine.copy_(new, non_blocking=True)
        self.graph.replay()
        return {name: value.clone() for name, value in self._results.items()}  # the next replay overwrites them

    def _beside(self, batch: Any) -> dict[str, Tensor]:
        """On a side stream, as a recording demands of what was run before it."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            results = self.update(batch)
        current.wait_stream(stream)
        return results

    def _record(self, batch: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # the loader's thread works meanwhile
            self._results = self.update(batch)
        return graph
