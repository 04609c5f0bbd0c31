"""The examples in docstrings run and print what they say. Only modules that have some are loaded."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).parents[1] / "src"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def documented(node: Documented, name: str) -> Iterator[tuple[str, str]]:
    """Every docstring below ``node`` that holds an example, by its place."""
    text = ast.get_docstring(node) or ""
    if ">>> " in text:
        yield name, text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from documented(child, f"{name}.{child.name}")


def examples() -> dict[str, tuple[str, str]]:
    """Place -> module and docstring. Read from the source: a checked function hides where it was written."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if ">>> " in (source := path.read_text(encoding="utf-8")):
            module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
            found |= {place: (module, text) for place, text in documented(ast.parse(source), module)}
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("place", EXAMPLES)
def test_example(place: str) -> None:
    module, text = EXAMPLES[place]
    names = {"torch": torch} | vars(importlib.import_module(module))
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(doctest.DocTestParser().get_doctest(text, names, place, None, None), out=told.append)
    assert not told, "".join(told)


def test_an_example_that_is_wrong_is_noticed() -> None:
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert runner.run(wrong, out=lambda _: None).failed == 1
    assert "plait.fusion.early.EarlyFusion" in EXAMPLES and "plait.tutorial.train_multimodal_vla" in EXAMPLES
