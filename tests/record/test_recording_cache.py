"""Real simulation and real processes: images go straight into the cache."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from plait.data import cache, layout
from plait.data.lerobot import Dataset
from plait.record.recorder import Recording, record

CAMERAS, SIZE = ["front", "wrist"], (64, 64)


def cached(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (out / cache.FOLDER).glob("*.npy")}


def check(made: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded where it was said to be cached, and the cache holds what decoding gives."""
    dataset = Dataset.open(made.out)
    with monkeypatch.context() as patch:
        if made.cache == "images cached":
            patch.setattr(cache, "_decode", None)
        images = cache.Images(dataset, CAMERAS, SIZE)
    for camera in CAMERAS:
        assert np.array_equal(images.arrays[camera], dataset.images(camera, range(len(dataset))))


def test_it_is_continued_and_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "d"
    command = f"from plait.record.recorder import record; record('tabletop', {str(out)!r}, 400, cache=True)"
    process = subprocess.Popen([sys.executable, "-c", command])
    while process.poll() is None:
        if (out / layout.INFO).exists() and json.loads((out / layout.INFO).read_text())["total_episodes"] >= 3:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL
    wanted = json.loads((out / layout.INFO).read_text())["total_episodes"] + 2
    made = record("tabletop", out, wanted, workers=2, cache=True)
    assert made.episodes == wanted and made.cache  # the moment of the kill decides whether it was continued
    check(made, monkeypatch)
    made = record("tabletop", out, wanted + 3, workers=2, cache=True)
    assert made.cache == "images cached" and made.episodes == wanted + 3
    check(made, monkeypatch)
    grown = cached(out)
    for name in grown:
        (out / cache.FOLDER / name).unlink()
    cache.Images(Dataset.open(out), CAMERAS, SIZE)
    assert cached(out) == grown
    told = str(record("tabletop", out, wanted + 3, workers=1, cache=True))
    assert told.endswith("; images cached") and cached(out) == grown


def test_video_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"camera 'front' is stored as video, .*; say --images png"):
        record("tabletop", tmp_path / "d", 2, workers=1, images="video", cache=True)
