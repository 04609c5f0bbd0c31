"""The documents keep their word: links lead somewhere, and every plait command in them is one that plait takes."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plait.cli import main
from plait.cli.verbs import VERBS
from policies import SINGLE

ROOT = Path(__file__).parents[1]
PAGES = sorted(p for folder in (".", "docs", "examples", "benchmarks") for p in ROOT.joinpath(folder).glob("*.md"))
NEW_PART = ROOT / "docs/add-a-part.md"  # its commands name a part that it adds, and run once it is there
COMPILED = "test_every_part_compiles_in_one_graph_and_exports"
CAPTURE = """
import torch
from capture import capture, single
from plait.fusion import JointConfig

torch.set_num_threads(1)
capture(*single("fusion", JointConfig()))
"""
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)|(?:src|href)=\"([^\"#]+)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    targets = ["".join(match) for match in LINK.findall(FENCE.sub("", text))]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def commands(text: str, program: str = "plait") -> list[list[str]]:
    """The plait commands of the shell blocks, without what shows a choice (``[...]``) or continues (``...``)."""
    lines = [line for language, block in FENCE.findall(text) for line in shell_lines(language, block)]
    words = [shlex.split(line, comments=True) for line in lines if not re.search(r"\[|\.\.\.|…", line)]
    return [line[1:] for line in words if line[:1] == [program]]


def shell_lines(language: str, block: str) -> list[str]:
    """What is typed: every line of a bash block; those after ``$`` in a console block, where the others are output."""
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return {"bash": lines, "sh": lines, "console": typed}.get(language, [])


def take(verb: str, *arguments: str) -> None:
    """Raises when it is not a command; ``plait --help`` and the like run, since they do nothing."""
    if verb in VERBS and "--help" not in arguments:
        VERBS[verb].parse(list(arguments), f"plait {verb}")
    else:
        assert main([verb, *arguments]) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [target for target in links(text) if not (page.parent / target).exists()] == []
    for command in commands(text) if page != NEW_PART else []:
        take(*command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_table_of_parts_is_up_to_date() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "examples/readme_parts.py"))
    assert all(f"| `--{part.replace('=', ' ')}` |" in script["table"]() for part in SINGLE)
    assert script["updated"](readme) == readme, "run make docs"


def added(text: str, diff: str) -> str:
    """A file with the lines that a diff adds, each below the line that stands above it."""
    above = ""
    for line in diff.splitlines():
        if line.startswith("+"):
            assert text.count(f"{above}\n") == 1, f"{above!r} is no line of the file"
            text = text.replace(f"{above}\n", f"{above}\n{line[1:]}\n")
        above = line[1:]
    return text


def test_a_newcomer_adds_a_fusion_as_the_page_says(tmp_path: Path) -> None:
    text = NEW_PART.read_text(encoding="utf-8")
    page = FENCE.findall(text)
    (code,) = (block for language, block in page if language == "python")
    (diff,) = (block for language, block in page if language == "diff")
    assert len(code.splitlines()) < 60
    package = shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__")) / "plait"
    package.joinpath("fusion/joint.py").write_text(code, encoding="utf-8")
    union = package / "fusion/__init__.py"
    union.write_text(added(union.read_text(encoding="utf-8"), diff), encoding="utf-8")

    def run(*words: str, folder: Path = ROOT) -> str:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT / "tests")])}
        done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    listed, _, _ = (run("-m", "plait", *command, folder=tmp_path) for command in commands(text))
    shown = next(block for language, block in page if language == "text")
    assert [line for line in shown.splitlines() if line not in listed.splitlines()] == ["  ..."]
    trained = json.loads((tmp_path / "runs/joint/run.json").read_text(encoding="utf-8"))["policy"]
    assert (trained["fusion"]["type"], trained["fusion"]["layers"]) == ("joint", 1)
    (tests,) = commands(text, "pytest")
    run("-m", "pytest", *tests, "-p", "no:cacheprovider", "--deselect", f"{tests[0]}::{COMPILED}")
    run("-c", CAPTURE)  # that test takes long, so of all parts the new one


def test_what_is_looked_for_is_found() -> None:
    text = '[a](b.md#c) [w](https://x.y) <img src="d.png">\n'
    text += "```bash\nplait list envs  # all\nplait train R \\\n  --out o\nplait eval ... [--seed S]\n```\n"
    text += "  ```console\n  $ plait list\n  plait: no such [thing](there.md)\n  ```\n"
    text += "```python\ncalls[0](images)\nplait.load(run)\n```\n"
    assert links(text) == ["b.md", "d.png"]
    assert commands(text) == [["list", "envs"], ["train", "R", "--out", "o"], ["list"]]


def test_a_command_is_one_or_not() -> None:
    take("--help"), take("train", "--help"), take("list", "envs")
    with pytest.raises(ValueError, match="no option '--vidoes'"):
        take("eval", "r", "--vidoes", "3")
    with pytest.raises(AssertionError):
        take("evaluate", "r")
