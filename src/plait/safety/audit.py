"""What happened to a robot's mode, and why: a file of JSON lines, rotated when it is large."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from plait.files import plain


class Audit:
    """Appends one line per event; several robots may share it, and several threads.

    A disk that is full does not stop a robot: that lines are lost is told once on standard error, and when they can be
    written again, how many they were. A file that was moved away, as ``logrotate`` does, is begun anew.

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
        self._file = _File(path, maxBytes=size, backupCount=keep, encoding="utf-8")

    def write(self, event: dict[str, Any]) -> None:
        """One line: the time of day, then ``event``. Numbers that JSON does not know become null."""
        told = plain({"at": round(self._clock(), 3), **event})
        line = json.dumps(told, ensure_ascii=False, allow_nan=False)
        self._file.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        self._file.close()


class _File(RotatingFileHandler):
    lost = 0  # lines, since one could be written

    def emit(self, record: logging.LogRecord) -> None:
        before = self.lost
        super().emit(record)
        if before and self.lost == before:
            self.lost = 0
            self._tell(f"is written again; {before} lines were lost")

    def shouldRollover(self, record: logging.LogRecord) -> int:  # what ``emit`` asks first
        if not self._is_there():
            self._close()
        return super().shouldRollover(record)  # opens it where it is closed

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        self._close()  # what waits in it is lost, so that it does not come later, beside what is told
        self.lost += 1
        if self.lost == 1:
            self._tell(f"{getattr(error, 'strerror', None) or error}; lines are lost until it can be written")

    def _is_there(self) -> bool:
        """Whether what is open is still the file of that name."""
        with suppress(OSError):
            if self.stream is not None:
                return os.path.samestat(os.stat(self.baseFilename), os.fstat(self.stream.fileno()))
        return False

    def _close(self) -> None:
        with suppress(OSError, ValueError):
            if self.stream is not None:
                self.stream.close()
        self.stream = None

    def _tell(self, sentence: str) -> None:
        with suppress(OSError, ValueError):  # where standard error is full as well, or closed
            print(f"plait: audit {self.baseFilename}: {sentence}", file=sys.stderr, flush=True)
