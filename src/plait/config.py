"""Configs are frozen dataclasses; this file turns them into plain dicts (JSON) and back, strictly, and compares them.

A field whose type is a union of config classes is a choice of part: the dict carries the part's name under
``"type"`` (``FilmConfig`` -> ``"film"``). The union is the registry: nothing else lists plait's own parts.
"""

import json
import re
import types
import warnings
from collections.abc import Container, Iterable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from math import isfinite
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def unknown(what: str, value: object, options: Iterable[str]) -> ValueError:
    """The error for a name that is not among ``options``: the value, the choices, and the nearest one."""
    names = sorted(options)
    near = get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"no {what} {str(value)!r}; choose one of {names}.{hint}")


def differences(before: dict[str, Any], now: dict[str, Any], free: Container[str] = ()) -> list[str]:
    """What differs between two nested tables of settings, as ``name (0 then, 1 now)``.

    Args:
        before: as read from JSON.
        now: what JSON can hold.
        free: dotted names of settings that may differ.
    """
    old, new = _flat(before), _flat(json.loads(json.dumps(now)))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name) and name not in free]
    swapped = tuple(name.removesuffix("type") for name in names if name.endswith(".type"))
    names = [name for name in names if name.endswith(".type") or not name.startswith(swapped)]  # a part's name says all
    return [f"{name} ({old.get(name)!r} then, {new.get(name)!r} now)" for name in names]


def refuse_other(place: object, differences: list[str], way_out: str = "say --out another folder") -> None:
    """Raise the ValueError that says why what lies in ``place`` cannot be continued, if anything differs."""
    if differences:
        raise ValueError(f"{place} was made with other settings: {', '.join(differences)}; {way_out}")


def refuse_small(**numbers: tuple[float | None, float]) -> None:
    """Raise a ValueError for the first of the named numbers ``(value, least)`` that is below its least.

    >>> refuse_small(seed=(3, 0), workers=(0, 1))
    Traceback (most recent call last):
    ValueError: workers: 0 is too small; at least 1
    """
    for name, (value, least) in numbers.items():
        if value is not None and not value >= least:
            raise ValueError(f"{name}: {value} is too small; at least {least}")


def refuse_outside(config: Any, where: str = "", **ranges: str) -> None:
    """Raise a ValueError for the first number of a config, alone or in a tuple, that is outside its range.

    Whole numbers must be at least 1, others at least 0 and finite; ``ranges`` names the fields for which that is
    different, as intervals: ``dropout="[0, 1)"``.

    Args:
        where: what stands before the field's name; the part's name when omitted.
    """
    for name, hint in get_type_hints(type(config)).items():
        value, usual = getattr(config, name), "[0, inf)" if float in (hint, *get_args(hint)) else "[1, inf)"
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                _refuse_number(f"{where or part_name(type(config))}.{name}", number, ranges.get(name, usual))


def _refuse_number(name: str, number: float, interval: str) -> None:
    low, high = map(float, interval[1:-1].split(","))
    least = f"{'at least' if interval[0] == '[' else 'above'} {low:g}"
    most = f"{'at most' if interval[-1] == ']' else 'below'} {high:g}"
    rule = f"{least} and {most}" if isfinite(high) else least
    if isinstance(number, float) and not isfinite(number):
        raise ValueError(f"{name}: {number} is not finite; {rule}")
    if number < low or (number == low and interval[0] == "("):
        raise ValueError(f"{name}: {number} is too small; {rule}")
    if number > high or (number == high and interval[-1] == ")"):
        raise ValueError(f"{name}: {number} is too large; {rule}")


def part_name(cls: type) -> str:
    """``CrossAttentionConfig`` -> ``cross_attention``: the one word that names a part everywhere."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__.removesuffix("Config")).lower()


def members(union: Any, slot: str = "") -> dict[str, type]:
    """The parts of a union (or of a single config class) by name; with its ``slot``, also those of other packages."""
    classes = get_args(union) or (union,)
    own = {part_name(cls): cls for cls in classes if cls is not type(None)}
    others = installed(slot) if slot else {}
    return own | {name: part for name, part in others.items() if name not in own}


@cache
def installed(slot: str) -> dict[str, type]:
    """The parts that other installed packages offer for a slot (fusion, head, memory, vision, language), by name.

    A package names them as entry points of the group ``plait.<slot>``. Nothing else is imported, whatever a checkpoint
    says. A part that cannot be used is left out with a warning.
    """
    from importlib.metadata import entry_points  # only where it is used: it takes a moment to load

    parts: dict[str, type] = {}
    for entry in entry_points(group=f"plait.{slot}"):
        try:
            part = entry.load()
            if not (isinstance(part, type) and is_dataclass(part)) or part_name(part) != entry.name:
                raise ValueError(f"{entry.value} must be a config class that is called {entry.name!r}, see part_name")
            parts[entry.name] = part
        except Exception as error:  # whatever somebody else's module raises when it is imported
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"{slot} {entry.name!r} of another package is left out ({reason})", stacklevel=2)
    return parts


def to_dict(config: Any) -> Any:
    """A config as plain dicts, lists and scalars; parts of a union carry their name under ``"type"``."""
    if is_dataclass(config) and not isinstance(config, type):
        hints = get_type_hints(type(config))
        result: dict[str, Any] = {}
        for field in fields(config):
            value = to_dict(getattr(config, field.name))
            if isinstance(value, dict) and _is_choice(hints[field.name]):
                value = {"type": part_name(type(getattr(config, field.name))), **value}
            result[field.name] = value
        return result
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(value) for value in config]
    return config


def from_dict(cls: type[T], data: Any, where: str = "") -> T:
    """Build ``cls`` from plain data.

    Raises:
        ValueError: a field that does not exist, a part that does not exist, or a value of the wrong type;
            the message names the path, the value and the choices.
    """
    return _build(cls, data, where or part_name(cls))


def _build(hint: Any, data: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build_dataclass(hint, data, where)
    if hint is Any:
        return data
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _build_union(hint, arguments, data, where)
    if origin is Literal:
        if data not in arguments:
            raise ValueError(f"{where}: {unknown('value', data, map(str, arguments))}")
        return data
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise _wrong(where, data, "a list")
        inner = arguments[:1] * len(data) if arguments[-1] is Ellipsis else arguments
        if len(inner) != len(data):
            raise _wrong(where, data, f"a list of {len(inner)} values")
        return tuple(
            _build(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(inner, data, strict=True))
        )
    if origin is dict:
        if not isinstance(data, dict):
            raise _wrong(where, data, "a table of names and values")
        return {key: _build(arguments[1], value, f"{where}.{key}") for key, value in data.items()}
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise _wrong(where, data, hint.__name__)
    return data


def _build_dataclass(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(where, data, f"the fields of {cls.__name__}")
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    for key in data:
        if key not in names and key != "type":
            raise ValueError(f"{where}: {unknown('field', key, names)}")
    try:
        return cls(**{name: _build(hints[name], data[name], f"{where}.{name}") for name in names if name in data})
    except TypeError as error:  # a required field is absent
        raise ValueError(f"{where}: {str(error).split('() ')[-1]}") from error


def _build_union(hint: Any, arguments: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in arguments:
        return None
    if _is_choice(hint) and isinstance(data, dict):
        parts = members(hint)
        if data.get("type") not in parts:  # only then are other packages asked, which may be slow to import
            parts = members(hint, where.rpartition(".")[2])
        if data.get("type") not in parts:
            found = unknown("part", data.get("type"), parts)
            raise ValueError(f"{where}: {found} A part of another package is there once that is installed.")
        return _build_dataclass(parts[data["type"]], data, where)
    failures = []
    for kind in arguments:
        try:
            return _build(kind, data, where)
        except ValueError as error:
            failures.append(str(error))
    raise ValueError(failures[-1])


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    rows = [_flat(item, f"{prefix}.{name}" if prefix else name) for name, item in value.items()]
    return {name: item for row in rows for name, item in row.items()}


def _is_choice(hint: Any) -> bool:
    """A union of config classes (``None`` may be among them)."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return get_origin(hint) in (Union, types.UnionType) and bool(kinds) and all(map(is_dataclass, kinds))


def _wrong(where: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{where}: {value!r} is {type(value).__name__}; expected {expected}")
