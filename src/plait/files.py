"""Files and folders of plait's own: small files written whole and read with a name to blame, and a folder's lock."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then an atomic rename. Folders are made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it, or restore it from a copy") from error


def flush(folder: Path) -> None:
    """Wait until all files in ``folder`` are on the disk itself, where a power cut leaves them."""
    for file in filter(Path.is_file, folder.rglob("*")):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder out of it; it is made. A ``kill -9`` unlocks it too.

    Raises:
        ValueError: another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # it has no flock
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself: no file is left in it
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{folder}: another process is writing here; wait until it has ended, or say --out another folder"
        ) from None
    except OSError:  # some network file systems cannot
        pass
