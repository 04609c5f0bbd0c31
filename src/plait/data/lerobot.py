"""Read a LeRobotDataset v3.0, from plait or from lerobot, with video or images, whatever its cameras are called."""

import json
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from plait.data import checks, layout
from plait.data.finalize import recover
from plait.data.frames import PngFrames, VideoFrames
from plait.data.info import read_info, read_plait, read_spec
from plait.data.statistics import of_vectors
from plait.data.tables import Columns, EpisodeRow, episode_rows, read_columns
from plait.files import is_locked
from plait.spec import Spec


@dataclass(frozen=True)
class Dataset:
    """N frames of demonstrations. Numbers are in memory, images are read when asked for.

    Attributes:
        spec: the embodiment; conventions that the dataset does not state are None.
        tasks: instruction of each task index.
        episodes: one row each, in order; frames ``start`` to ``start + length`` are the episode's.
        whole: the dataset of which this one is the beginning (``first``); None: it is whole itself.

    Example:
        >>> dataset = Dataset.open("datasets/pick")             # doctest: +SKIP
        >>> dataset.images("front", [0, 1]).shape               # doctest: +SKIP
        torch.Size([2, 64, 64, 3])
    """

    path: Path
    info: dict[str, Any]
    spec: Spec
    tasks: list[str]
    episodes: list[EpisodeRow]
    columns: Columns
    whole: "Dataset | None" = None

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Open the dataset in the folder ``path`` and check that its parts belong together (``verify`` checks pixels).

        Raises:
            ValueError: not a v3 dataset, or something in it is missing, broken or inconsistent; the message names the
                file, what is wrong and what to do.
        """
        dataset = cls.read(path)
        if problems := checks.pairing(dataset):
            more = f" (and {len(problems) - 1} more: plait doctor lists them)" if len(problems) > 1 else ""
            raise ValueError(f"{path}: {problems[0]}{more}")
        return dataset

    @classmethod
    def read(cls, path: str | Path) -> "Dataset":
        """The dataset as it is, with numbers and instructions that may be wrong: for whoever looks for what is wrong.

        Raises:
            ValueError: not a v3 dataset, or a file that is missing or broken.
        """
        path = Path(path)
        if path.is_dir() and is_locked(path):
            finish = "wait for its end; plait record with the same arguments continues one that was stopped"
            raise ValueError(f"{path}: a recording is under way here; {finish}")
        recover(path)
        info = read_info(path)
        if not info["total_episodes"]:
            raise ValueError(f"{path}: no finished episode yet; record at least one")
        rows = episode_rows(path, info)
        columns = read_columns(rows, info["features"])
        tasks = layout.read_tasks(path / layout.TASKS)
        return cls(path, info, read_spec(path, info), tasks, rows, columns)

    def __len__(self) -> int:
        return len(self.columns.row)

    def first(self, episodes: int) -> "Dataset":
        """The first ``episodes`` alone, with their instructions, whatever was recorded after them. Nothing is copied:
        images and their cache are those of the whole dataset.
        """
        if not 1 <= episodes <= len(self.episodes):
            raise ValueError(f"{self.path}: has {len(self.episodes)} episodes; {episodes} of them cannot be taken")
        rows, frames = self.episodes[:episodes], self.episodes[episodes - 1].start + self.episodes[episodes - 1].length
        values = {name: column[:frames] for name, column in self.columns.values.items()}
        told, values["task_index"] = np.unique(values["task_index"], return_inverse=True)
        tasks = [self.tasks[task] for task in told.tolist()]
        columns = Columns(values, self.columns.files, self.columns.file[:frames], self.columns.row[:frames])
        return replace(self, tasks=tasks, episodes=rows, columns=columns, whole=self.whole or self)

    @cached_property
    def action(self) -> Float[Tensor, "n a"]:
        return torch.from_numpy(self.columns.values[layout.ACTION])

    @cached_property
    def state(self) -> Float[Tensor, "n s"] | None:
        return torch.from_numpy(self.columns.values[layout.STATE]) if layout.STATE in self.columns.values else None

    @cached_property
    def task_index(self) -> Int[Tensor, " n"]:
        return torch.from_numpy(self.columns.values["task_index"].astype(np.int64))

    @cached_property
    def episode_index(self) -> Int[Tensor, " n"]:
        return torch.from_numpy(self.columns.values["episode_index"].astype(np.int64))

    def images(self, camera: str, indices: Any) -> UInt8[Tensor, "n h w 3"]:
        """Images of one camera at any frames, decoded now, at the dataset's own size.

        Raises:
            ValueError: an image is missing or broken; the message names the file and the place in it.
        """
        return torch.from_numpy(self.frames[camera].read(np.asarray(indices)))

    @cached_property
    def frames(self) -> dict[str, PngFrames | VideoFrames]:
        """Camera -> where its images come from."""
        sources: dict[str, PngFrames | VideoFrames] = {}
        for camera, key in layout.camera_keys(self.info).items():
            feature, size = self.info["features"][key], self.spec.cameras[camera]
            if feature["dtype"] == "image":
                sources[camera] = PngFrames(self.columns, key, size)
            else:
                time = self.columns.values["timestamp"].astype(np.float64)
                sources[camera] = VideoFrames(self.episodes, camera, time, float(self.info["fps"]), size)
        return sources

    def statistics(self) -> dict[str, dict[str, Tensor]]:
        """Exact mean, std, min, max and quantiles (q01 ... q99) of state and action, each ``[s]`` or ``[a]``."""
        keys = [key for key in (layout.STATE, layout.ACTION) if key in self.columns.values]
        return {
            key: {name: torch.from_numpy(value).float() for name, value in of_vectors(self.columns.values[key]).items()}
            for key in keys
        }

    def provenance(self) -> dict[str, Any]:
        """How it was recorded, when plait wrote it: environment, arguments, seed, versions; else {}."""
        return read_plait(self.path).get("provenance", {})

    def extras(self) -> list[dict[str, Any]]:
        """What was kept beside each episode (its exact seed), when plait wrote it; else []."""
        file = self.path / layout.PLAIT_EPISODES
        return [json.loads(line) for line in layout.read_lines(file, len(self.episodes))] if file.exists() else []

    def content(self) -> dict[str, int]:
        """Numbers by which the dataset is known again, wherever it lies."""
        checksum = zlib.crc32(self.action.numpy().tobytes())
        return {"frames": len(self), "episodes": len(self.episodes), "crc32": checksum}

    def verify(self) -> list[str]:
        """Read everything, every pixel included; one sentence per problem, [] when the dataset is sound."""
        return checks.pairing(self) + checks.pixels(self)
