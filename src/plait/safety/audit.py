"""What happened to a robot's mode, and why: a file of JSON lines, rotated when it is large."""

import json
import logging
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from plait.files import plain


class Audit:
    """Appends one line per event; several robots may share it, and several threads.

    A disk that is full does not stop a robot: what cannot be written is told on standard error, by ``logging``.

    Args:
        path: the newest file; older ones are ``path.1``, ``path.2``, ...
        size: bytes, about, after which the next file begins.
        keep: how many older files are kept.
        clock: seconds since 1970.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(
        self, path: Path | str, size: int = 10_000_000, keep: int = 5, clock: Callable[[], float] = time.time
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._file = RotatingFileHandler(path, maxBytes=size, backupCount=keep, encoding="utf-8")

    def write(self, event: dict[str, Any]) -> None:
        """One line: the time of day, then ``event``. Numbers that JSON does not know become null."""
        told = plain({"at": round(self._clock(), 3), **event})
        line = json.dumps(told, ensure_ascii=False, allow_nan=False)
        self._file.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        self._file.close()
