"""Pairs from demonstrations: pictures of a dataset's episodes, and what the robot was told when each was taken."""

from dataclasses import dataclass

import numpy as np
import torch

from plait.alignment.pairs import Pairs
from plait.config import refuse_small, unknown
from plait.data.images import resize
from plait.data.lerobot import Dataset
from plait.data.loader import held_out
from plait.progress import Bar

BLOCK = 64  # pictures that are in memory at their own size


@dataclass(frozen=True)
class Frames(Pairs):
    """Pictures of episodes.

    Attributes:
        episodes: the number of each picture's episode.
    """

    episodes: list[int]

    def some(self, rows: np.ndarray) -> "Frames":
        return Frames(**vars(super().some(rows)), episodes=[self.episodes[row] for row in rows.tolist()])

    def kept(self, share: float) -> np.ndarray:
        """Those of whole episodes, whose pictures are much alike. Training a policy holds out the same episodes."""
        episodes = np.unique(self.episodes)
        return np.flatnonzero(np.isin(self.episodes, episodes[held_out(len(episodes), share)]))


def read_episodes(dataset: Dataset, camera: str, frames: int, size: int) -> Frames:
    """Each picture has one text: the instruction of its frame.

    Args:
        camera: see ``pick_camera``.
        frames: pictures of each episode, evenly spaced, the first and the last one included; 1: the first alone. A
            shorter episode gives all that it has.
        size: pictures are resized to this square, in pixels.

    Raises:
        ValueError: every frame has the same instruction, or a picture is missing or broken.
    """
    refuse_small(frames=(frames, 1))
    spaced = [row.start + np.linspace(0, row.length - 1, min(frames, row.length)).round() for row in dataset.episodes]
    taken = np.concatenate(spaced).astype(int)
    texts = [dataset.tasks[task].strip() for task in dataset.task_index[taken].tolist()]
    if len(set(texts)) < 2:
        raise ValueError(
            f"{dataset.path}: the instruction is always {texts[0]!r}, so that there is nothing to tell apart; give a "
            "dataset with several"
        )
    images = []
    with Bar("reading pictures", len(taken), "pictures") as bar:
        for block in np.split(taken, range(BLOCK, len(taken), BLOCK)):
            images.append(resize(dataset.images(camera, block), (size, size)))
            bar.advance(len(block))
    return Frames(torch.cat(images), [[text] for text in texts], dataset.episode_index[taken].tolist())


def pick_camera(dataset: Dataset, name: str | None = None) -> str:
    """The name of one of the dataset's cameras: its first one where none is named.

    Raises:
        ValueError: there is no such camera, or none at all.
    """
    cameras = list(dataset.spec.cameras)
    if not cameras:
        raise ValueError(f"{dataset.path}: it has no camera, and alignment needs pictures; give a dataset with one")
    if name is not None and name not in cameras:
        raise ValueError(f"{dataset.path}: {unknown('camera', name, cameras)}")
    return name or cameras[0]
