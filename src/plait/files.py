"""Small files of plait's own, written whole and read with a name to blame."""

import json
import os
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
