from pathlib import Path

import numpy as np
import pytest

from plait.data import video

RATE = 10.0


def ramp(n: int, start: int = 0) -> np.ndarray:
    """n frames of 32 x 32; frame i is grey with level 16 + 6 (start + i)."""
    levels = (16 + 6 * (start + np.arange(n))).astype(np.uint8)
    return np.tile(levels[:, None, None, None], (1, 32, 32, 3))


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """Three clips of 7, 4 and 9 frames in one file: frame i of the file is ``ramp``'s frame i."""
    lengths, start, paths = [7, 4, 9], 0, []
    for i, n in enumerate(lengths):
        paths.append(tmp_path / f"{i}.mp4")
        paths[-1].write_bytes(video.encode(ramp(n, start), RATE))
        start += n
    video.join(paths, lengths, tmp_path / "joined.mp4", RATE)
    return tmp_path / "joined.mp4"


def test_every_frame_is_where_its_time_says(joined: Path):
    expected = ramp(20).astype(int)
    order = np.random.default_rng(0).permutation(20)
    frames = video.Videos().frames(joined, (order / RATE).tolist(), 0.25 / RATE)
    assert all(np.abs(frame - expected[i]).max() <= 2 for frame, i in zip(frames, order, strict=True))
    in_order = list(video.every_frame(joined))
    assert [round(time * RATE) for time, _ in in_order] == list(range(20))
    assert all(np.abs(frame - expected[i]).max() <= 2 for i, (_, frame) in enumerate(in_order))
    assert video.duration(joined) == pytest.approx(2.0)


def test_files_are_closed_when_many_are_open(tmp_path: Path):
    videos = video.Videos(keep_open=2)
    for i in range(4):
        (tmp_path / f"{i}.mp4").write_bytes(video.encode(ramp(3, i), RATE))
    for i in (0, 1, 2, 3, 0):
        (frame,) = videos.frames(tmp_path / f"{i}.mp4", [0.1], 0.02)
        assert abs(int(frame[0, 0, 0]) - (16 + 6 * (i + 1))) <= 2


def test_a_time_without_a_frame_is_an_error(joined: Path):
    with pytest.raises(ValueError, match=r"joined\.mp4: no frame at 2\.0000 s"):
        video.Videos().frames(joined, [2.0], 0.25 / RATE)


def test_a_broken_file_is_named(tmp_path: Path):
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match=r"broken\.mp4: not a readable video"):
        video.duration(tmp_path / "broken.mp4")
    with pytest.raises(ValueError, match=r"gone\.mp4: no such file"):
        video.duration(tmp_path / "gone.mp4")


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="15x16 pixels; both must be even"):
        video.encode(np.zeros((2, 15, 16, 3), np.uint8), RATE)
