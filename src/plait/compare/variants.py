"""The same demonstrations with something wrong or missing, in memory: the files stay as they are."""

from dataclasses import replace

import numpy as np

from plait.data.lerobot import Dataset


def mispaired(dataset: Dataset, share: float, seed: int) -> Dataset:
    """A share of the episodes gets the instruction of another episode that was told something else.

    Args:
        share: 0 to 1.
        seed: decides which episodes, and whose instruction.

    Raises:
        ValueError: all episodes have the same instruction.
    """
    own = dataset.task_index.numpy()[[row.start for row in dataset.episodes]]
    rng, given = np.random.default_rng(seed), own.copy()
    for episode in rng.permutation(len(own))[: round(share * len(own))]:
        others = np.flatnonzero(own != own[episode])
        if not len(others):
            raise ValueError(f"{dataset.path}: every episode has the same instruction; none can be exchanged")
        given[episode] = own[rng.choice(others)]
    tasks = dataset.columns.values["task_index"].copy()
    for row, old, new in zip(dataset.episodes, own, given, strict=True):
        if new != old:
            tasks[row.start : row.start + row.length] = new
    return _with_tasks(dataset, tasks)


def without_words(dataset: Dataset) -> Dataset:
    """Nothing is said in any episode. The words stay in the vocabulary, so the policy has the same size."""
    tasks = np.full_like(dataset.columns.values["task_index"], len(dataset.tasks))
    return replace(_with_tasks(dataset, tasks), tasks=[*dataset.tasks, ""])


def without_cameras(dataset: Dataset) -> Dataset:
    """Nothing is seen: a policy for it has words and state alone."""
    return replace(dataset, spec=replace(dataset.spec, cameras={}))


def _with_tasks(dataset: Dataset, tasks: np.ndarray) -> Dataset:
    columns = replace(dataset.columns, values=dataset.columns.values | {"task_index": tasks})
    return replace(dataset, columns=columns)
