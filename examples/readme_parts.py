"""Writes the table of parts into README.md, from the unions and the first lines of the configs' docstrings.

python examples/readme_parts.py
"""

import re
from pathlib import Path

from plait.cli.catalogue import CATALOGUE

README = Path(__file__).parents[1] / "README.md"
BETWEEN = re.compile(r"(?<=<!-- parts: made by make docs -->\n).*(?=<!-- end of parts -->)", re.DOTALL)


def table() -> str:
    rows = [row for what in ("encoders", "fusions", "memories", "heads") for row in CATALOGUE[what]()]
    return "\n".join(["| `plait train` | |", "|---|---|", *(f"| `{option}` | {line} |" for option, line in rows), ""])


def updated(text: str) -> str:
    return BETWEEN.sub(lambda _: table(), text)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
