"""From words on a command line to values, with errors of one sentence."""

import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import tyro

from plait.config import unknown

T = TypeVar("T")
STYLE = (tyro.conf.AvoidSubcommands, tyro.conf.PositionalMetavarFromFieldName)
CHOICE = r"^[Ii]nvalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)\.$"  # as tyro says it
PLAIN = {  # what tyro says, in plain words
    r"^Missing from [^:]+: (?:(--\S+) \S+|([A-Z]+)) (.*) \(required\)$": r"\1\2 is missing: \3",
    r"^Missing value for argument '(--\S+)'.*$": r"\1: its value is missing.",
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


def parse(
    kind: type[T], arguments: list[str], program: str, description: str = "", habits: Mapping[str, str] | None = None
) -> T:
    """Fill the dataclass ``kind`` from ``arguments``. ``habits``: what options of other tools are called here.

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
        raise ValueError(f"{_plain(told.getvalue())} ({program} --help shows all options.)") from None
    if rest:
        name = rest[0].partition("=")[0]
        near = get_close_matches(name, option_names(kind), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if habit := (habits or {}).get(name.rpartition(".")[2].lstrip("-").replace("_", "-")):
            hint = f" Here it is {habit}."
        raise ValueError(f"no option {rest[0]!r}; {program} --help shows all options.{hint}")
    return value


def _plain(box: str) -> str:
    """What tyro says in a box, in plain words."""
    lines = _first_paragraph(box)
    text = " ".join(map(str.strip, lines))
    if text.startswith("Missing from ") and len(missing := _least_indented(lines[1:])) > 1:
        return f"{', '.join(missing[:-1])} and {missing[-1]} are missing"
    if choice := re.match(CHOICE, text):
        value, option, quoted = choice.groups()
        options = re.findall("'(.*?)'", quoted)
        return f"{option}: {unknown('choice', value, options)}"
    for pattern, plain in PLAIN.items():
        text = re.sub(pattern, plain, text)
    return text


def _least_indented(lines: list[str]) -> list[str]:
    """The first word of each line that is indented as the first one is."""
    margins = [len(line) - len(line.lstrip()) for line in lines]
    return [line.split()[0] for line, margin in zip(lines, margins, strict=True) if margin == margins[0]]


def _first_paragraph(box: str) -> list[str]:
    """The lines in a box, under its title and above its first rule."""
    lines: list[str] = []
    for line in box.splitlines()[1:]:
        if not line.strip("│╰╯─- "):  # a rule
            if lines:
                break
        else:
            lines.append(line.strip("│"))
    return lines


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
    """``("family=pick", "size=64,96", "cameras=")`` -> ``{"family": "pick", "size": [64, 96], "cameras": []}``.

    Raises:
        ValueError: as ``texts``.
    """
    return {name: _value(text) for name, text in texts(words, option).items()}


def texts(words: Iterable[str], option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    """``("front=a.png", "wrist=1,2.png")`` -> ``{"front": "a.png", "wrist": "1,2.png"}``.

    Raises:
        ValueError: a word without ``=``, or a name that comes twice.
    """
    table: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{option}: {word!r} is not of the form {form}.")
        if name in table:
            raise ValueError(f"{option}: {name!r} is given twice; give it once.")
        table[name] = value
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
        return [_value(part) for part in text.split(",")] if "," in text else text or []


def first_line(thing: Any) -> str:
    """What a class or a function is, as its docstring begins."""
    return (thing.__doc__ or "").strip().splitlines()[0]


def sentence(error: Exception) -> str:
    """What an error says, in a form meant for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
