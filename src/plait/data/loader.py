"""Batches of demonstrations, each a pure function of (seed, step), so that an exact resume needs no sampler state."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils import _pytree as pytree

from plait.data.augment import Augment
from plait.data.cache import Images
from plait.data.lerobot import Dataset
from plait.data.streams import AUGMENTATION, ORDER, stream_seed
from plait.data.targets import keyframe_targets
from plait.data.world import ALONE, World
from plait.types import Batch, Inputs, Observation


class Loader:
    """Shuffled training batches and the held-out episodes.

    Every training frame comes exactly once per epoch; a batch may reach over the end of an epoch into the next.

    Args:
        prepare: ``Policy.prepare``: a raw observation -> the policy's inputs.
        horizon: length of the action chunk that follows each frame.
        size: (height, width) of the images; they are cached at this size.
        seed: of the order and the augmentation. Which episodes are held out does not depend on it.
        augment: None leaves the images as they are.
        validation: share of the episodes that is held out, at least one of two or more when above 0.
        cache: decode all images once into a memory-mapped file (when it fits); False decodes them at each access.
        prefetch: how many batches ``stream`` prepares ahead.
        moments: what the policy sees of each sample: the frame itself and those 1, 2, ... times ``stride`` before it,
            from its episode alone. ``Inputs.window`` tells which there are; the first frame stands in for the others.
        stride: frames between two moments.
        world: which of several processes this one is; each gets its own rows of every batch.

    Raises:
        ValueError: sizes that make no sense.
    """

    def __init__(
        self,
        dataset: Dataset,
        prepare: Callable[[Observation], Inputs],
        horizon: int,
        batch_size: int,
        size: tuple[int, int],
        seed: int = 0,
        augment: Augment | None = None,
        validation: float = 0.05,
        cache: bool = True,
        prefetch: int = 4,
        moments: int = 1,
        stride: int = 1,
        world: World = ALONE,
    ) -> None:
        if min(horizon, batch_size, *size, moments, stride) < 1:
            numbers = f"horizon {horizon}, batch_size {batch_size}, size {size}, moments {moments}, stride {stride}"
            raise ValueError(f"{numbers}: each must be at least 1")
        self.cameras = list(dataset.spec.cameras)
        self.dataset, self.prepare, self.horizon, self.batch_size = dataset, prepare, horizon, batch_size
        self.seed, self.augment, self.prefetch = seed, augment, prefetch
        self.moments, self.stride, self.world = moments, stride, world
        self.images = Images(dataset, self.cameras, size, cache)
        self.held_out = held_out(len(dataset.episodes), validation)
        self._starts = torch.tensor([row.start for row in dataset.episodes])[dataset.episode_index]
        self._ends = torch.tensor([row.start + row.length for row in dataset.episodes])[dataset.episode_index]
        held = np.isin(dataset.episode_index.numpy(), self.held_out)
        self.frames, self.validation_frames = np.flatnonzero(~held), np.flatnonzero(held)
        self._state, self._action = dataset.state, dataset.action
        self._keyframe, self._keyframe_mask = keyframe_targets(dataset) or (None, None)
        self._orders: dict[int, np.ndarray] = {}

    def reside(self, device: torch.device) -> bool:
        """Prepare batches on a GPU, to which everything moves now if it fits. If not, the images follow batch by batch,
        from pinned memory.

        The batches stay the same; whether the images are there now is returned.
        """
        if device.type != "cuda":
            return False
        for name in ("_state", "_action", "_ends", "_keyframe", "_keyframe_mask"):
            if (column := getattr(self, name)) is not None:
                setattr(self, name, column.to(device))
        return self.images.reside(device)

    def batch(self, step: int) -> Batch:
        """The ``step``-th batch, or this process's rows of it: the same at every call."""
        indices, generator = self.indices(step), torch.Generator()
        generator.manual_seed(stream_seed(self.seed, AUGMENTATION, step))
        batch = self._load(self.world.part(indices), generator)
        return batch if self.world.size == 1 else replace(batch, **self._valid(indices))

    def indices(self, step: int) -> np.ndarray:
        """Which frames the ``step``-th batch holds, those of all processes together."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = positions // len(self.frames), positions % len(self.frames)
        orders = {epoch: self._order(epoch) for epoch in np.unique(epochs).tolist()}
        return np.array([orders[epoch][place] for epoch, place in zip(epochs.tolist(), places.tolist(), strict=True)])

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches ``start`` to ``stop`` (excluded), prepared ahead by a thread (and on a stream of its own, where
        the data resides on a GPU)."""
        ready: queue.Queue[Batch | Exception] = queue.Queue(self.prefetch)
        abandoned = threading.Event()
        thread = threading.Thread(target=self._produce, args=(ready, abandoned, range(start, stop)), daemon=True)
        thread.start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield _received(item)
        finally:
            abandoned.set()
            thread.join()

    def validation(self) -> Iterator[Batch]:
        """The held-out episodes, every frame once, in order, without augmentation; each batch in one process."""
        first, every = (number * self.batch_size for number in (self.world.rank, self.world.size))
        for start in range(first, len(self.validation_frames), every):
            yield self._load(self.validation_frames[start : start + self.batch_size], None)

    def _produce(self, ready: queue.Queue[Any], abandoned: threading.Event, steps: range) -> None:
        device = self._action.device
        beside = torch.cuda.Stream(device) if device.type == "cuda" else None
        if beside:
            beside.wait_stream(torch.cuda.current_stream(device))  # the data may still be on its way
        for step in steps:
            try:
                with torch.cuda.stream(beside):
                    item = self.batch(step).to(device, non_blocking=True)
                if beside:
                    beside.synchronize()  # the only wait for this stream: what is handed over is there
            except Exception as error:  # raised again where the batch is wanted
                item = error
            while not abandoned.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if abandoned.is_set() or isinstance(item, Exception):
                return

    def _order(self, epoch: int) -> np.ndarray:
        """The epoch's permutation of the training frames; the last two stay in memory."""
        if epoch not in self._orders:
            rng = np.random.default_rng([self.seed, ORDER, epoch])
            self._orders = {**dict(list(self._orders.items())[-1:]), epoch: rng.permutation(self.frames)}
        return self._orders[epoch]

    def _load(self, indices: np.ndarray, generator: torch.Generator | None) -> Batch:
        frames = torch.from_numpy(indices)
        inputs = self._inputs(frames, generator)
        rows = frames.to(self._action.device, non_blocking=True)
        keyframe, known = (None if column is None else column[rows] for column in (self._keyframe, self._keyframe_mask))
        action, mask = chunks(self._action, rows, self._ends[rows], self.horizon)
        return Batch(inputs, action, mask, keyframe, known)

    def _valid(self, indices: np.ndarray) -> dict[str, Tensor | None]:
        """How often the columns of a whole batch's masks are True per process."""
        rows = torch.from_numpy(indices).to(self._action.device, non_blocking=True)
        _, mask = chunks(self._action, rows, self._ends[rows], self.horizon)
        known = None if self._keyframe_mask is None else self._keyframe_mask[rows].sum(0) / self.world.size
        return {"action_valid": mask.sum(0) / self.world.size, "keyframe_valid": known}

    def _inputs(self, samples: Int[Tensor, " b"], generator: torch.Generator | None) -> Inputs:
        """What the policy sees at each sample's moments, in one row per moment."""
        frames, window = windows(samples, self._starts[samples], self.moments, self.stride)
        images = {camera: self._moved(self.images.read(camera, frames)) for camera in self.cameras}
        if self.augment and generator is not None:
            images = {camera: self.augment(pixels, generator, self.world) for camera, pixels in images.items()}
        words = [self.dataset.tasks[task] for task in self.dataset.task_index[frames].tolist()]
        state = None if self._state is None else self._state[frames.to(self._state.device, non_blocking=True)]
        inputs = self.prepare(Observation(images, state, words))
        return inputs if self.moments == 1 else replace(inputs, window=window)

    def _moved(self, images: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "n h w 3"]:
        """Where batches are prepared; nothing waits for the copy from pinned memory."""
        device = self._action.device
        return images if images.device == device else images.pin_memory().to(device, non_blocking=True)


def windows(
    samples: Int[Tensor, " b"], starts: Int[Tensor, " b"], moments: int, stride: int
) -> tuple[Int[Tensor, " n"], Bool[Tensor, "b moments"]]:
    """The frames ``stride`` apart that end at each sample, the oldest first; before the episode's start, its first
    frame and a mask of False.
    """
    wanted = samples[:, None] - stride * torch.arange(moments - 1, -1, -1)
    return torch.maximum(wanted, starts[:, None]).flatten(), wanted >= starts[:, None]


def _received(batch: Batch) -> Batch:
    """``batch``, which another stream has made, for use on the current one, which its memory now waits for."""
    for tensor in pytree.tree_leaves(batch):
        if tensor.is_cuda:
            tensor.record_stream(torch.cuda.current_stream())
    return batch


def chunks(
    action: Float[Tensor, "n a"], rows: Int[Tensor, " b"], ends: Int[Tensor, " b"], horizon: int
) -> tuple[Float[Tensor, "b horizon a"], Bool[Tensor, "b horizon"]]:
    """The ``horizon`` actions from each row on; after the episode's end, its last one and a mask of False."""
    wanted = rows[:, None] + torch.arange(horizon, device=rows.device)
    return action[torch.minimum(wanted, ends[:, None] - 1)], wanted < ends[:, None]


def held_out(episodes: int, share: float) -> np.ndarray:
    """Which of the episodes are kept for validation: a fixed draw, so that every run and tool picks the same.

    Raises:
        ValueError: ``share`` is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"validation share {share}; it must be at least 0 and below 1")
    count = max(1, round(share * episodes)) if share and episodes > 1 else 0
    return np.sort(np.random.default_rng(0).permutation(episodes)[:count])
