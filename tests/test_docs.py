"""The documents keep their word: links lead somewhere, and every plait command in them is one that plait takes."""

import re
import shlex
from pathlib import Path

import pytest

from plait.cli import VERBS

ROOT = Path(__file__).parents[1]
PAGES = sorted(p for folder in (".", "docs", "examples", "benchmarks") for p in ROOT.joinpath(folder).glob("*.md"))
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)|(?:src|href)=\"([^\"#]+)")
FENCE = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    targets = ["".join(match) for match in LINK.findall(text)]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def commands(text: str) -> list[list[str]]:
    """The plait commands of the shell blocks, without what shows a choice (``[...]``) or continues (``...``)."""
    lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    words = [
        shlex.split(line.removeprefix("$ "), comments=True) for line in lines if not re.search(r"\[|\.\.\.|…", line)
    ]
    return [line[1:] for line in words if line[:1] == ["plait"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [target for target in links(text) if not (page.parent / target).exists()] == []
    for verb, *arguments in commands(text):
        VERBS[verb].parse(arguments, f"plait {verb}")


def test_what_is_looked_for_is_found() -> None:
    text = '[a](b.md#c) [w](https://x.y) <img src="d.png">\n'
    text += "```bash\n$ plait list envs  # all\nplait train R \\\n  --out o\nplait eval ... [--seed S]\n```\n"
    assert links(text) == ["b.md", "d.png"]
    assert commands(text) == [["list", "envs"], ["train", "R", "--out", "o"]]
