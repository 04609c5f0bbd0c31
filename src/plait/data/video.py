"""Video files: encode an episode, join files without re-encoding, read any frame at any time.

AV1 as lerobot writes it (yuv420p, a key frame every 2 frames, crf 30) where this build of FFmpeg has SVT-AV1, else
H.264. A frame is found by its time in the file.
"""

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

KEY_FRAME_INTERVAL = 2
QUALITY = 30  # constant rate factor: lower is better and larger


def codec() -> str:
    """The encoder to use: ``"libsvtav1"``, or ``"libx264"`` where that is missing."""
    return next(name for name in ("libsvtav1", "libx264") if name in av.codecs_available)


def info(height: int, width: int, rate: float) -> dict[str, Any]:
    """What ``info.json`` says about a video feature."""
    name = "av1" if codec() == "libsvtav1" else "h264"
    known = {"height": height, "width": width, "codec": name, "pix_fmt": "yuv420p", "fps": _number(rate), "channels": 3}
    known |= {"g": KEY_FRAME_INTERVAL, "crf": QUALITY}
    return {**{f"video.{key}": value for key, value in known.items()}, "has_audio": False, "is_depth_map": False}


def _number(rate: float) -> int | float:
    return int(rate) if float(rate).is_integer() else rate


def encode(images: np.ndarray, rate: float) -> bytes:
    """uint8 ``[n, h, w, 3]`` RGB at ``rate`` frames per second -> the bytes of an mp4 file.

    Raises:
        ValueError: the height or the width is odd, which yuv420p cannot hold.
    """
    height, width = images.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"video: {height}x{width} pixels; both must be even. Use images='png' or another size")
    name = codec()
    os.environ.setdefault("SVT_LOG", "1")  # the encoder prints its settings otherwise; errors stay
    options = {"crf": str(QUALITY), "g": str(KEY_FRAME_INTERVAL)}
    options |= {"preset": "12", "svtav1-params": "lp=1"} if name == "libsvtav1" else {"bf": "0", "threads": "1"}
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        stream: Any = container.add_stream(name, Fraction(rate).limit_denominator(1000), options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    return sink.getvalue()


def join(sources: list[Path], frames: list[int], target: Path, rate: float) -> None:
    """One file after another, packets copied as they are; ``frames`` is how many each source holds."""
    with av.open(str(target), "w", format="mp4") as output:
        stream, start = None, 0
        for source, count in zip(sources, frames, strict=True):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video, opaque=True)
                shift = round(start / (Fraction(rate).limit_denominator(1000) * _time_base(video)))
                for packet in container.demux(video):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        output.mux(packet)
            start += count


def _time_base(stream: Any) -> Fraction:
    return Fraction(stream.time_base)


class Videos:
    """Random access to frames of many files; the last few stay open. Safe to use from several threads."""

    def __init__(self, keep_open: int = 16) -> None:
        self._open: OrderedDict[Path, _File] = OrderedDict()
        self._keep = keep_open
        self._lock = threading.Lock()

    def frames(self, path: Path, times: list[float], tolerance: float) -> list[np.ndarray]:
        """The frames (uint8 ``[h, w, 3]``) at ``times`` in seconds, in that order.

        Raises:
            ValueError: the file cannot be read, or holds no frame within ``tolerance`` seconds of a time.
        """
        with self._lock:
            if path not in self._open:
                self._open[path] = _File(path)
                if len(self._open) > self._keep:
                    self._open.popitem(last=False)[1].close()
            self._open.move_to_end(path)
            file, result = self._open[path], {}
            for time in sorted(set(times)):
                result[time] = file.frame(time, tolerance)
            return [result[time] for time in times]


class _File:
    """One open video: decodes on from where it stands when the next frame is near, else seeks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.container = _open(path)
        self.stream = self.container.streams.video[0]
        self.stream.codec_context.thread_count = 1  # more threads only delay the first frame after a seek
        self.base = _time_base(self.stream)
        self.reformatter = VideoReformatter()
        self.decoder: Iterator[av.VideoFrame] = iter(())
        self.position = float("-inf")
        self.near = 2.5 / float(self.stream.average_rate or 1)

    def close(self) -> None:
        self.container.close()

    def frame(self, time: float, tolerance: float) -> np.ndarray:
        try:
            if not self.position < time - tolerance <= self.position + self.near:
                self.container.seek(round((time + tolerance) / self.base), stream=self.stream, backward=True)
                self.decoder = self.container.decode(self.stream)
            for frame in self.decoder:
                self.position = float((frame.pts or 0) * self.base)
                if self.position >= time - tolerance:
                    if self.position > time + tolerance:
                        break
                    return self.reformatter.reformat(frame, format="rgb24").to_ndarray()
        except (FFmpegError, ValueError) as error:
            raise ValueError(f"{self.path}: not a readable video ({error}); restore it from a copy") from error
        self.position = float("-inf")
        raise ValueError(f"{self.path}: no frame at {time:.4f} s; the video is shorter than its episodes, or cut off")


def duration(path: Path) -> float:
    """Seconds of video in a file, from its header. Raises ``ValueError`` naming the file."""
    with _open(path) as container:
        stream = container.streams.video[0]
        return float((stream.duration or 0) * _time_base(stream))


def every_frame(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """(time in seconds, uint8 ``[h, w, 3]``) of every frame, in order."""
    with _open(path) as container:
        stream, reformatter = container.streams.video[0], VideoReformatter()
        stream.codec_context.thread_count = 1
        try:
            for frame in container.decode(stream):
                image = reformatter.reformat(frame, format="rgb24").to_ndarray()
                yield float((frame.pts or 0) * _time_base(stream)), image
        except FFmpegError as error:
            raise ValueError(f"{path}: not a readable video ({error}); restore it from a copy") from error


def _open(path: Path) -> Any:
    try:
        container = av.open(str(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, although meta/episodes mentions it; restore it from a copy") from None
    except (FFmpegError, OSError) as error:
        raise ValueError(f"{path}: not a readable video ({error}); restore it from a copy") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: holds no video; restore it from a copy")
    return container
