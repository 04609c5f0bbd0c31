"""Classic faults of datasets, planted one at a time: a healthy dataset is written again with its episodes changed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter

Change = Callable[[Episode], Episode]
X, Y, GRIPPER = 0, 1, 6


def episodes(dataset: Dataset) -> list[Episode]:
    """What is stored, as it was recorded."""
    assert dataset.state is not None
    result = []
    for row, extra in zip(dataset.episodes, dataset.extras(), strict=True):
        frames = range(row.start, row.start + row.length)
        images = {camera: dataset.images(camera, frames).numpy() for camera in dataset.spec.cameras}
        state, action = dataset.state[frames].numpy(), dataset.action[frames].numpy()
        result.append(Episode(images, state, action, row.instructions[0], extra))
    return result


def plant(source: Path, folder: Path, change: Change, some: slice = slice(None)) -> Path:
    """A copy of the dataset in which ``some`` of the episodes are changed."""
    dataset = Dataset.open(source)
    writer = DatasetWriter(folder, dataset.spec, "png", dataset.provenance())
    old = episodes(dataset)
    chosen = range(len(old))[some]
    writer.append(*(change(episode) if i in chosen else episode for i, episode in enumerate(old)))
    writer.finalize()
    return folder


def action(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda episode: replace(episode, action=change(episode.action))


def state(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def changed(episode: Episode) -> Episode:
        assert episode.state is not None
        return replace(episode, state=change(episode.state))

    return changed


def images(change: Callable[[np.ndarray], np.ndarray], *cameras: str) -> Change:
    """``change`` takes and gives ``[n, h, w, 3]``."""
    return lambda episode: replace(
        episode, images=episode.images | {camera: change(episode.images[camera]) for camera in cameras}
    )


def times(entry: int, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    """Multiplies one entry of ``[n, d]``."""
    return lambda values: values * np.where(np.arange(values.shape[1]) == entry, factor, 1).astype(values.dtype)


def positions(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    """Multiplies x, y and z of ``[n, d]``."""
    return lambda values: values * np.array([factor] * 3 + [1] * (values.shape[1] - 3), np.float32)


def exchanged(values: np.ndarray) -> np.ndarray:
    """x and y of ``[n, d]`` stand in each other's place."""
    return values[:, [Y, X, *range(2, values.shape[1])]]


def as_places(episode: Episode) -> Episode:
    """Each action says where the hand shall be, not by how much it moves."""
    assert episode.state is not None
    goals = np.concatenate([episode.state[1:, :3], episode.state[-1:, :3]])
    return replace(episode, action=np.concatenate([goals, episode.action[:, 3:]], axis=1))


def late(steps: int) -> Callable[[np.ndarray], np.ndarray]:
    """What belongs to frame t stands at t + steps; the first one fills the gap."""
    return lambda values: np.concatenate([values[:1].repeat(steps, 0), values[:-steps]])


def early(steps: int) -> Callable[[np.ndarray], np.ndarray]:
    """What belongs to frame t stands at t - steps; the last one fills the gap."""
    return lambda values: np.concatenate([values[steps:], values[-1:].repeat(steps, 0)])


def swapped(episode: Episode) -> Episode:
    """Each camera has the pictures of the other."""
    return replace(episode, images=dict(zip(episode.images, reversed(episode.images.values()), strict=True)))


def mispair(source: Path, folder: Path) -> Path:
    """Each episode gets the instruction of the one before."""
    said = [episode.instruction for episode in episodes(Dataset.open(source))]
    turns = iter([said[-1], *said[:-1]])
    return plant(source, folder, lambda episode: replace(episode, instruction=next(turns)))


def rewrite(source: Path, folder: Path, column: str, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy with one column of the data file changed behind the writer's back: ``[n]`` or ``[n, d]``."""
    shutil.copytree(source, folder)
    (file,) = folder.glob("data/*/*.parquet")
    table = pq.read_table(file)
    old = table[column].combine_chunks()
    values = change(np.array(old.to_pylist()))
    place = table.column_names.index(column)
    new = pa.array(values.tolist(), old.type)
    pq.write_table(table.set_column(place, table.schema.field(place), new), file, row_group_size=32)
    return folder
