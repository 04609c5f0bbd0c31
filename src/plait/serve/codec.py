"""msgpack with numpy arrays, as openpi's clients speak it; what comes in is bounded and checked. No pickle, no torch.

An array is a map with bytes keys ``{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [...]}``, a numpy
scalar ``{b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}``
(https://github.com/Physical-Intelligence/openpi, package ``openpi-client``).
"""

import math
import re
import threading
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
DATA, DTYPE, SHAPE = b"data", b"dtype", b"shape"
PACKED = "biuf"  # kinds of dtype: bool, signed, unsigned, float
DTYPES = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")  # what openpi refuses (V, O, c), and text, dates, long doubles
MOST_AXES, LONGEST_AXIS = 8, 2**24


class Malformed(ValueError):
    """A message that is not what it should be; the sentence says why."""


@dataclass(frozen=True)
class Limits:
    """How much one message may hold.

    Attributes:
        bytes: of the whole message.
        nesting: maps and lists within each other, the outermost one included.
        entries: of all maps and lists together.
    """

    bytes: int = 16 * 2**20
    nesting: int = 8
    entries: int = 1024


def pack(value: Any) -> bytes:
    """Maps, lists, text, numbers and numpy arrays as one message.

    Raises:
        ValueError: an array of complex numbers, text, objects or records.
        TypeError: anything else that msgpack does not know.
    """
    packed = _PACKING.packer.pack(value)
    assert packed is not None
    return packed


def unpack(message: bytes, limits: Limits = Limits()) -> Any:
    """What ``pack`` was given; arrays are read-only and in the machine's byte order.

    Raises:
        Malformed: whatever is wrong with the message; nothing else is raised, and the memory taken is in proportion
            to ``limits``.
    """
    if len(message) > limits.bytes:
        raise Malformed(f"a message of {len(message)} bytes; at most {limits.bytes} are taken")
    counted = _Counted(limits.entries)
    try:
        value = msgpack.unpackb(
            message,
            object_pairs_hook=counted.on_map,
            list_hook=counted.on_list,
            max_array_len=limits.entries,
            max_map_len=limits.entries,
            max_ext_len=0,
        )
    except Malformed:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise Malformed(f"not msgpack with numpy arrays ({type(error).__name__}: {_short(error)})") from None
    _check_plain(value, limits.nesting)
    return value


class _Counted:
    """The decoder's hooks: they see each map and list when it is complete, from the inside out."""

    def __init__(self, entries: int) -> None:
        self.entries, self.left = entries, entries

    def on_list(self, items: list[Any]) -> list[Any]:
        self._count(len(items))
        return items

    def on_map(self, pairs: list[tuple[Any, Any]]) -> Any:
        self._count(len(pairs))
        table = dict(pairs)
        if len(table) < len(pairs):
            raise Malformed("a key comes twice in the same map")
        if ARRAY in table:
            return _array(table)
        return _scalar(table) if SCALAR in table else table

    def _count(self, entries: int) -> None:
        self.left -= entries + 1  # empty ones take memory too
        if self.left < 0:
            raise Malformed(f"more than {self.entries} entries in one message")


def _array(table: dict[Any, Any]) -> np.ndarray:
    _check_keys(table, {ARRAY, DATA, DTYPE, SHAPE}, "array")
    dtype, data, shape = _dtype(table[DTYPE]), table[DATA], table[SHAPE]
    if not isinstance(data, bytes):
        raise Malformed(f"array: data is {type(data).__name__}, expected bytes")
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_AXES
        or not all(type(n) is int and 0 <= n <= LONGEST_AXIS for n in shape)
    ):
        rule = f"at most {MOST_AXES} whole numbers from 0 to {LONGEST_AXIS}"
        raise Malformed(f"array: shape {_short(shape)}; expected {rule}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Malformed(f"array: {len(data)} bytes are not shape {_short(shape)} of {dtype.str}")
    if dtype.kind == "b":
        array = np.asarray(np.ndarray(shape, np.uint8, data) != 0)  # any other byte would be neither True nor False
    else:
        array = np.ndarray(shape, dtype, data).astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _scalar(table: dict[Any, Any]) -> np.generic:
    _check_keys(table, {SCALAR, DATA, DTYPE}, "scalar")
    dtype, value = _dtype(table[DTYPE]), table[DATA]
    if not isinstance(value, {"b": bool, "f": (int, float)}.get(dtype.kind, int)) or (
        isinstance(value, bool) != (dtype.kind == "b")
    ):
        raise Malformed(f"scalar: {_short(value)} is no {dtype.name}")
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise Malformed(f"scalar: {value} is beyond {dtype.name}")
    with np.errstate(over="ignore"):  # a float that is too large becomes infinite, as in numpy
        return dtype.type(value)


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not DTYPES.fullmatch(name):
        raise Malformed(f"dtype {_short(name)}; only bool, integers and floats of up to 64 bits are taken")
    return np.dtype(name)


def _check_keys(table: dict[Any, Any], wanted: set[bytes], what: str) -> None:
    if table.keys() != wanted:
        raise Malformed(f"{what}: keys {_short(sorted(map(repr, table)))}; expected {sorted(wanted)}")


def _check_plain(value: Any, nesting: int) -> None:
    """Keys are text, and containers are not too deep in each other."""
    if not isinstance(value, (dict, list)):
        return
    if nesting == 0:
        raise Malformed("maps and lists too deep in each other")
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise Malformed(f"key {_short(key)} is {type(key).__name__}, expected text")
    for item in value.values() if isinstance(value, dict) else value:
        _check_plain(item, nesting - 1)


def _packed(value: Any) -> Any:
    """What msgpack cannot pack itself."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"{type(value).__name__} cannot be sent; maps, lists, text, numbers and numpy arrays can")
    if value.dtype.kind not in PACKED:
        raise ValueError(f"dtype {value.dtype} cannot be sent; bool, integers and floats can")
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data  # not copied
        return {ARRAY: True, DATA: data, DTYPE: value.dtype.str, SHAPE: value.shape}
    return {SCALAR: True, DATA: value.item(), DTYPE: value.dtype.str}


class _Packing(threading.local):
    """Of each thread: a packer that keeps its buffer. Fresh memory for each message takes longer than packing does."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer(default=_packed)


_PACKING = _Packing()


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
