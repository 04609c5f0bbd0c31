"""Messages that nobody should send: real ones, mutated; what gives a new kind of answer joins the corpus."""

import random
import re
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from messages import message
from plait.serve.codec import Limits, pack

MARKERS = bytes([0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0)])  # what begins a value in msgpack
NUMBERS = (-1, 0, 1, 2, 7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
ODD: tuple[Any, ...] = (
    *(None, True, -1, 2**63, 1e308, float("nan"), float("inf"), "", "x" * 5000, b"", b"\xff" * 64, [], {}),
    *([[]] * 50, {"a": {"a": {"a": {}}}}, "<f4", "|O", "|V8", "<U4", [2**40, 2**40], [-1], [0, 3], [2.5]),
)
NAMES = ("a", "reset", "prompt", "episode", b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape")
LARGEST_CORPUS, REAL = 400, 8
LIMITS = Limits(bytes=2**18)  # 16 MiB would take too long; only swell() makes so much


class Mutator:
    """Endless messages from real ones. ``learn`` tells which of them were worth keeping."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.corpus = _real()
        self._known: set[str] = set()

    def next(self) -> bytes:
        draw = self.random
        found = draw.choice(self.corpus[:REAL] if draw.random() < 0.6 else self.corpus)
        for _ in range(draw.choice((1, 1, 1, 1, 2, 4))):
            found = draw.choice(MUTATIONS)(draw, found, self.corpus)
        return found

    def learn(self, sent: bytes, answer: str) -> None:
        kind = re.sub(r"[0-9]+|'.*'", "", answer)[:60]
        if kind not in self._known and len(self.corpus) < LARGEST_CORPUS and len(sent) < 4000:
            self._known.add(kind)
            self.corpus.append(sent)


def _real() -> list[bytes]:
    """Small observations of every convention, a reset, and each kind of value."""
    small = message(size=8)
    front, wrist, state, told = small.values()
    return [
        *map(
            pack, (small, {"reset": True}, {**small, "reset": True}, {**small, "episode": 3, "age_ms": {"state": 2.0}})
        ),
        pack({"observation.images.front": front, "observation.images.wrist": wrist, "observation.state": state}),
        pack(
            {"images": {"cam_high": np.moveaxis(front, -1, 0), "cam_left_wrist": wrist}, "state": state, "task": told}
        ),
        pack(
            {**small, "observation/state": state.tolist(), "more": [np.float32(1), np.bool_(False), np.int8(-4), None]}
        ),
        pack({"observation/exterior_image_1_left": front, "observation/joint_position": state[:7].astype(">f8")}),
    ]


def flip(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(data or b"\x80")
    for _ in range(draw.choice((1, 2, 8))):
        changed[draw.randrange(min(len(changed), draw.choice((64, len(changed)))))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def mark(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + bytes([draw.choice(MARKERS)]) + data[place + draw.choice((0, 1)) :]


def cut(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def drop(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + data[place + draw.choice((1, 2, 5, 100)) :]


def repeat(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + data[place : place + draw.choice((1, 3, 50))] * draw.choice((2, 9, 300)) + data[place:]


def splice(draw: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    other = draw.choice(corpus)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def lengths(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Another number where a 16- or 32-bit length stands."""
    places = [i for i, byte in enumerate(data[:2000]) if 0xC4 <= byte <= 0xC9 or 0xD9 <= byte <= 0xDF]
    if not places:
        return data
    place, size = draw.choice(places) + 1, draw.choice((1, 2, 4))
    number = draw.choice(NUMBERS) % 2 ** (8 * size)
    return data[:place] + number.to_bytes(size, "big") + data[place + size :]


def nest(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return draw.choice((b"\x91", b"\x81\xa1a", b"\x81\xc4\x01a")) * draw.choice((1, 7, 8, 9, 600, 5000)) + data


def bomb(draw: random.Random, _: bytes, __: list[bytes]) -> bytes:
    """Little that claims or becomes much."""
    return draw.choice(
        (
            b"\x90" * 100_000,
            b"\xdc\x10\x00" * 2000,
            b"\xdd\xff\xff\xff\xff" + bytes(100),
            b"\xdf\x00\x00\xff\xff" + b"\xa1a\xc0" * 5000,
            b"\xdc\x0f\xff" + b"\x80" * 4095,
            b"\xc6\x7f\xff\xff\xff" + bytes(1000),
        )
    )


def swell(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """As many bytes as are taken, or more: a list of the message and zeros, whose only fault is its size."""
    zeros = LIMITS.bytes + draw.choice((0, 1, 1000, 2**16)) - len(data) - 6
    return b"\x92" + data + struct.pack(">BI", 0xC6, zeros) + bytes(zeros) if zeros >= 0 else data


def edit(draw: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Another value, or none, or another key, somewhere in the tree, encoded properly."""
    try:
        tree = msgpack.unpackb(data[:4000], strict_map_key=False, max_array_len=100, max_map_len=100)
        holder, key = _place(draw, tree)
        if isinstance(holder, dict) and draw.random() < 0.2:
            holder[draw.choice(NAMES)] = holder.pop(key)
        elif draw.random() < 0.15:
            del holder[key]
        else:
            holder[key] = draw.choice(ODD)
        return msgpack.packb(tree) or b""
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return data


def _place(draw: random.Random, tree: Any) -> tuple[Any, Any]:
    """A container somewhere in the tree, and one of its keys."""
    if not isinstance(tree, (dict, list)) or not tree:
        raise ValueError("nothing to change")
    key = draw.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    below = tree[key]
    return _place(draw, below) if isinstance(below, (dict, list)) and below and draw.random() < 0.6 else (tree, key)


MUTATIONS: tuple[Callable[[random.Random, bytes, list[bytes]], bytes], ...] = (
    *(flip, mark, cut, drop, repeat, splice, lengths, nest) * 2,
    *(edit,) * 14,
    bomb,
    swell,
)
