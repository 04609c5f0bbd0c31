"""Files and folders: written whole, read with a name to blame, told when the disk is full, locked while written."""

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then an atomic rename. Folders are made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # writing, unlike opening, does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def room(path: Path, safe: Callable[[], str]) -> Iterator[None]:
    """Where something is written to ``path``: tell in one sentence that the disk is full, and what is ``safe`` then.

    Raises:
        OSError: the disk is full, whatever library met that.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        place = getattr(error, "filename", None) or path
        sentence = f"{place}: the disk is full; {safe()}. Free some space and run the same command again"
        raise OSError(sentence) from error


def is_full(error: Exception) -> bool:
    """Whether it means that the disk is full; libraries written in Rust have an error of their own for that."""
    return getattr(error, "errno", None) in FULL or any(f"(os error {number})" in str(error) for number in FULL)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it, or restore it from a copy") from error


def json_text(content: Any) -> str:
    """A JSON file's text, indented. Numbers that JSON does not know, infinity and NaN, become null."""
    return json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The same dicts and lists without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The tables of a file of JSON lines, [] where there is none; a line that was cut off by a kill is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


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


def is_locked(folder: Path) -> bool:
    """Whether a process, this one included, has ``locked`` the folder."""
    if sys.platform == "win32":
        return False
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who ask do not meet each other
    except BlockingIOError:
        return True
    except OSError:  # some network file systems cannot
        pass
    finally:
        os.close(descriptor)
    return False


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
