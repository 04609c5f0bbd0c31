"""From words on a command line to values, with errors of one sentence."""

import io
import json
import os
import re
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import tyro

T = TypeVar("T")
STYLE = (tyro.conf.AvoidSubcommands, tyro.conf.PositionalMetavarFromFieldName)
PLAIN = {  # what tyro says, in plain words
    r"^Missing from [^:]+: (?:(--\S+) \S+|([A-Z]+)) (.*) \(required\)$": r"\1\2 is missing: \3",
    r"^Error parsing (--\S+): invalid literal for int\(\) with base 10: (.*)$": r"\1: \2 is not a whole number.",
    r"^Error parsing (--\S+): could not convert string to float: (.*)$": r"\1: \2 is not a number.",
    r"^Error parsing (?!--)\S+: ": "",
}


class Verb:
    """A command: the docstring of a subclass is its help, its dataclass fields are its options, ``run`` does it."""

    kept: ClassVar[str] = "nothing was changed"
    """What an interruption leaves behind."""

    @classmethod
    def parse(cls, arguments: list[str], program: str) -> "Verb":
        return parse(cls, arguments, program)

    def run(self) -> None:
        raise NotImplementedError


def parse(kind: type[T], arguments: list[str], program: str, description: str = "") -> T:
    """Fill the dataclass ``kind`` from ``arguments``.

    Raises:
        ValueError: an option that does not exist, is missing, or has a wrong value.
        SystemExit: the help was asked for and shown.
    """
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            value, rest = tyro.cli(
                kind,
                prog=program,
                description=description or kind.__doc__,
                args=arguments,
                return_unknown_args=True,
                config=STYLE,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(f"{_unboxed(told.getvalue())} ({program} --help shows all options.)") from None
    if rest:
        near = get_close_matches(rest[0], option_names(kind), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no option {rest[0]!r}; {program} --help shows all options.{hint}")
    return value


def _unboxed(text: str) -> str:
    """The first paragraph of a box that tyro draws under a title, as one line without its preamble."""
    words: list[str] = []
    for line in text.splitlines()[1:]:
        if not line.strip("│╰╯─- "):  # a rule
            if words:
                break
        else:
            words.append(line.strip("│ "))
    text = " ".join(words)
    for pattern, plain in PLAIN.items():
        text = re.sub(pattern, plain, text)
    return text


def option_names(config: Any, prefix: str = "--") -> Iterable[str]:
    """Every option of a dataclass: those of its fields, and of the dataclasses that are their defaults."""
    for field in fields(config):
        value = getattr(config, field.name, None)
        name = "" if field.metadata.get("flat") else field.name.replace("_", "-")
        if is_dataclass(value):
            yield from option_names(value, f"{prefix}{name}." if name else prefix)
        else:
            yield prefix + name
            if isinstance(value, bool):
                yield f"{prefix}no-{name}"


def pairs(words: Iterable[str], option: str) -> dict[str, Any]:
    """``("family=pick", "size=64,96")`` -> ``{"family": "pick", "size": [64, 96]}``.

    Raises:
        ValueError: a word without ``=``, or a name that comes twice.
    """
    table = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{option}: {word!r} is not of the form name=value.")
        if name in table:
            raise ValueError(f"{option}: {name!r} is given twice; give it once.")
        table[name] = _value(value)
    return table


def folder(path: str, option: str) -> Path:
    """The path, once it is known that a folder can be written there; nothing is made yet.

    Raises:
        ValueError: it is a file or lies below one, or may not be written.
    """
    nearest = next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise ValueError(f"{option} {path}: {nearest} is a file; give a folder.")
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"{option} {path}: {nearest} may not be written; give another folder.")
    return Path(path)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [_value(part) for part in text.split(",")] if "," in text else text


def first_line(thing: Any) -> str:
    """What a class or a function is, as its docstring begins."""
    return (thing.__doc__ or "").strip().splitlines()[0]


def sentence(error: Exception) -> str:
    """What an error says, in a form meant for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
