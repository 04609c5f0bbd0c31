"""One episode: as arrays, and encoded for the disk (what workers send and the writer appends)."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from plait.data import statistics
from plait.data.keys import ACTION, IMAGE_PREFIX, STATE
from plait.data.png import encode_png
from plait.processes import Channel
from plait.spec import Spec


@dataclass(frozen=True)
class Episode:
    """n control steps: what was seen before each action, and the action.

    Attributes:
        images: camera -> uint8 ``[n, h, w, 3]``, RGB.
        state: float ``[n, s]`` in the units of the ``Spec``, or None.
        action: float ``[n, a]``.
        instruction: the sentence that was shown; it holds for the whole episode.
        extra: anything that JSON can hold, kept beside the episode (its seed, for one).
    """

    images: dict[str, np.ndarray]
    state: np.ndarray | None
    action: np.ndarray
    instruction: str
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class EncodedEpisode:
    """The same with images as PNG (``pngs``, one per frame) or as one mp4 file (``videos``), and its statistics.

    ``pixels`` are the images themselves, for a cache; they are no part of the bytes.
    """

    pngs: dict[str, list[bytes]]
    videos: dict[str, bytes]
    state: np.ndarray | None
    action: np.ndarray
    instruction: str
    statistics: dict[str, statistics.Statistics]
    extra: dict[str, Any]
    pixels: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.action)

    def send(self, channel: Channel, pixels: bool = False) -> None:
        """To another process that calls ``receive``; ``pixels`` follow uncopied when they are wanted there."""
        channel.send(self.to_bytes())
        for images in self.pixels.values() if pixels else ():
            channel.send_raw(images.data)

    @classmethod
    def receive(cls, channel: Channel, pixels: dict[str, tuple[int, int]]) -> "EncodedEpisode":
        """What another process has sent: with ``pixels`` of cameras of these sizes (height, width), {} for none.

        Raises:
            Gone, ValueError, OSError, RuntimeError: as ``Channel.receive``.
        """
        episode = cls.from_bytes(channel.receive())
        for camera, size in pixels.items():
            episode.pixels[camera] = np.empty((len(episode), *size, 3), np.uint8)
            channel.receive_raw(episode.pixels[camera].data)
        return episode

    def to_bytes(self) -> bytes:
        """For a pipe: safetensors, with the text as JSON in its header."""
        arrays = {"action": self.action} | ({} if self.state is None else {"state": self.state})
        for camera, pngs in self.pngs.items():
            arrays[f"png/{camera}"] = np.frombuffer(b"".join(pngs), np.uint8)
            arrays[f"end/{camera}"] = np.cumsum([len(png) for png in pngs])
        arrays |= {f"mp4/{camera}": np.frombuffer(data, np.uint8) for camera, data in self.videos.items()}
        arrays |= {f"stat/{key}/{name}": v for key, stats in self.statistics.items() for name, v in stats.items()}
        text = {"instruction": self.instruction, "extra": self.extra}
        return save({name: np.ascontiguousarray(value) for name, value in arrays.items()}, {"text": json.dumps(text)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "EncodedEpisode":
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = json.loads(header["__metadata__"]["text"])
        keys = {name.split("/")[1] for name in arrays if name.startswith("stat/")}
        stats = {key: {name: arrays[f"stat/{key}/{name}"] for name in statistics.NAMES} for key in keys}
        pngs = {}
        for camera in (name[4:] for name in arrays if name.startswith("png/")):
            blob, ends = arrays[f"png/{camera}"].tobytes(), arrays[f"end/{camera}"].tolist()
            pngs[camera] = [blob[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        videos = {name[4:]: value.tobytes() for name, value in arrays.items() if name.startswith("mp4/")}
        return cls(pngs, videos, arrays.get("state"), arrays["action"], text["instruction"], stats, text["extra"])


def storage(spec: Spec, images: str) -> dict[str, str]:
    """Camera -> ``"image"`` (PNG) or ``"video"``. ``"auto"``: PNG up to 96 pixels, where video smears small objects,
    and for odd sizes, which a video cannot hold.

    Raises:
        ValueError: ``images`` is not one of auto, png, video, or it is video and a camera's size is odd.
    """
    if images not in ("auto", "png", "video"):
        raise ValueError(f"images={images!r}; choose one of ['auto', 'png', 'video']")
    odd = {camera: size for camera, size in spec.cameras.items() if any(side % 2 for side in size)}
    if images == "video" and odd:
        camera, (height, width) = next(iter(odd.items()))
        found = f"camera {camera!r} has {height} x {width} pixels, and a video's height and width must be even"
        raise ValueError(f"images: {found}; say --images png, or take another size")
    if images != "auto":
        return dict.fromkeys(spec.cameras, "image" if images == "png" else "video")
    large = {camera for camera, size in spec.cameras.items() if max(size) > 96 and camera not in odd}
    return {camera: "video" if camera in large else "image" for camera in spec.cameras}


def encode(episode: Episode, spec: Spec, kinds: dict[str, str]) -> EncodedEpisode:
    """Check an episode against its ``Spec`` and encode it; ``kinds`` comes from ``storage``.

    Raises:
        ValueError: a camera, the state or the action is missing, has another shape or length, or is not finite.
    """
    check(episode, spec)
    rate = _rate(spec)
    action = np.asarray(episode.action, np.float32)
    state = None if episode.state is None else np.asarray(episode.state, np.float32)
    stats = {} if state is None else {STATE: statistics.of_vectors(state)}
    stats[ACTION] = statistics.of_vectors(action)
    stats |= {IMAGE_PREFIX + camera: statistics.of_images(episode.images[camera]) for camera in spec.cameras}
    pngs = {c: [encode_png(image) for image in episode.images[c]] for c, kind in kinds.items() if kind == "image"}
    videos = {c: _encode_video(episode.images[c], rate) for c, kind in kinds.items() if kind == "video"}
    pixels = {camera: np.ascontiguousarray(episode.images[camera]) for camera in spec.cameras}
    return EncodedEpisode(pngs, videos, state, action, episode.instruction, stats, episode.extra, pixels)


def _encode_video(images: np.ndarray, rate: float) -> bytes:
    from plait.data import video  # here, since most recordings need no FFmpeg

    return video.encode(images, rate)


def _rate(spec: Spec) -> float:
    if not spec.rate or spec.rate <= 0:
        raise ValueError(f"spec.rate is {spec.rate}; a dataset needs the control steps per second")
    return spec.rate


def check(episode: Episode, spec: Spec) -> None:
    """Raises ``ValueError`` with the first thing about ``episode`` that does not fit ``spec``."""
    n = len(episode.action)
    if n == 0:
        raise ValueError("an episode without a single step; record at least one")
    if not episode.instruction.strip():
        raise ValueError("an episode without an instruction; say what was asked for")
    for camera, size in spec.cameras.items():
        images = episode.images.get(camera)
        if images is None:
            raise ValueError(f"camera {camera!r} is missing; the episode has {sorted(episode.images)}")
        if images.dtype != np.uint8 or images.shape != (n, *size, 3):
            raise ValueError(f"camera {camera!r}: {images.dtype} {list(images.shape)}; expected uint8 {[n, *size, 3]}")
    vectors = {"action": (episode.action, spec.actions), "state": (episode.state, spec.state)}
    for name, (values, names) in vectors.items():
        if values is None and not names:
            continue
        if values is None or np.shape(values) != (n, len(names)):
            got = None if values is None else list(np.shape(values))
            raise ValueError(f"{name}: shape {got}; expected {[n, len(names)]} ({', '.join(names)})")
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: not finite at step {int(np.argwhere(~np.isfinite(values))[0][0])}")
