"""Does everything in a dataset belong together? One sentence per problem: the place, what is wrong, what to do."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from plait.data import layout, video

if TYPE_CHECKING:
    from plait.data.lerobot import Dataset


def pairing(dataset: "Dataset") -> list[str]:
    """The cheap checks, without decoding an image: instruction, state, action, time, length of video."""
    return [*_numbers(dataset), *_instructions(dataset), *_time(dataset), *_video_length(dataset)]


def pixels(dataset: "Dataset") -> list[str]:
    """Decode every image of every camera; the first problem of each."""
    problems = []
    for camera, frames in dataset.frames.items():
        try:
            for _ in frames.in_order():
                pass
        except ValueError as error:
            problems.append(f"camera {camera!r}: {error}")
    return problems


def _numbers(dataset: "Dataset") -> list[str]:
    problems = []
    for key in (layout.STATE, layout.ACTION):
        values = dataset.columns.values.get(key)
        if values is not None and not (fine := np.isfinite(values).all(1)).all():
            where = _where(dataset, int(np.flatnonzero(~fine)[0]))
            problems.append(f"{key} is not finite in {(~fine).sum()} frames, first in {where}; drop that episode")
    return problems


def _instructions(dataset: "Dataset") -> list[str]:
    index = dataset.columns.values["task_index"]
    known = np.array([bool(task.strip()) for task in dataset.tasks], bool)
    has = (index >= 0) & (index < len(known))
    has[has] = known[index[has]]
    if has.all():
        return []
    frame = int(np.flatnonzero(~has)[0])
    where = _where(dataset, frame)
    return [f"no instruction for task_index {index[frame]}, first used in {where}; add it to {layout.TASKS}"]


def _time(dataset: "Dataset") -> list[str]:
    """Frames are numbered 0, 1, 2, ... in each episode, and their times are that number / fps."""
    values, rate = dataset.columns.values, float(dataset.info["fps"])
    starts = np.array([episode.start for episode in dataset.episodes])
    lengths = np.array([episode.length for episode in dataset.episodes])
    expected = np.arange(len(dataset)) - np.repeat(starts, lengths)
    problems = []
    if "frame_index" in values and (wrong := np.flatnonzero(values["frame_index"] != expected)).size:
        frame = int(wrong[0])
        found = values["frame_index"][frame]
        problems.append(f"frame_index is {found} in {_where(dataset, frame)}; a frame is missing or twice there")
    if "timestamp" in values:
        off = np.abs(values["timestamp"] - expected / rate)
        if (wrong := np.flatnonzero(~(off < 0.25 / rate))).size:
            frame = int(wrong[0])
            found = f"{values['timestamp'][frame]:.4f} s, expected {expected[frame] / rate:.4f} s"
            where = _where(dataset, frame)
            problems.append(
                f"timestamp does not match fps {rate:g}: {found} in {where}; correct it, or fps in {layout.INFO}"
            )
    return problems


def _video_length(dataset: "Dataset") -> list[str]:
    rate, length, problems = float(dataset.info["fps"]), {}, []
    for episode in dataset.episodes:
        for camera, clip in episode.videos.items():
            if clip.path not in length:
                length[clip.path] = video.duration(clip.path)
            need = clip.start + episode.length / rate
            if length[clip.path] < need - 0.5 / rate:
                problems.append(_short(clip.path, camera, episode.index, length[clip.path], need))
    return problems


def _short(path: Path, camera: str, episode: int, have: float, need: float) -> str:
    return (
        f"{path}: {have:.2f} s of video, but camera {camera!r} of episode {episode} needs it up to {need:.2f} s; "
        "restore the file or drop the episode"
    )


def _where(dataset: "Dataset", frame: int) -> str:
    episode = int(dataset.columns.values["episode_index"][frame])
    return f"episode {episode}, frame {frame - dataset.episodes[episode].start}"
