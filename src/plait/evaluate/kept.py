"""The episodes that a long evaluation has finished, kept while it goes on, so that the same command continues."""

import json
from pathlib import Path
from typing import Any

from plait.config import differences, refuse_other
from plait.files import read_json_lines, write_whole

FREE = (
    "slots",  # an episode does not depend on which others are driven together with it
    "versions.commit",  # a new one need not change what is evaluated; the version of plait tells when it may
)


class Kept:
    """Rows in a file of JSON lines, the first of which says what they depend on. Leaving its context removes the file,
    an error or an interruption leaves it; a kill, too, but for the line that it has cut off.

    Args:
        path: None keeps nothing.
        protocol: what the rows depend on.

    Attributes:
        rows: those that are there already; ``add`` does not change it.

    Raises:
        ValueError: the file is that of another protocol.
    """

    def __init__(self, path: Path | None, protocol: dict[str, Any]) -> None:
        self.path = path
        described, *self.rows = (read_json_lines(path) if path else []) or [{}]
        if described:
            other = differences(described["protocol"], protocol, FREE)
            refuse_other(path, other, "delete it, or say --out another folder")
        if path:  # anew, without a line that a kill has cut off
            lines = [{"protocol": protocol}, *self.rows]
            write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def add(self, row: dict[str, Any]) -> None:
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    @property
    def way_on(self) -> str:
        """What is to be said after an interruption."""
        return "the same command continues" if self.path else "nothing was written"

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path and kind is None:
            self.path.unlink()
