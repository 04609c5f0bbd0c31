"""``plait list``: the names that the other commands take."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from plait.cli.parse import Verb
from plait.config import members, unknown


@dataclass(frozen=True)
class List(Verb):
    """List what there is: envs, encoders, fusions, heads or recipes."""

    what: Positional[str] = "all"
    """envs, encoders, fusions, heads, recipes, or all."""

    def run(self) -> None:
        if self.what not in ("all", *CATALOGUE):
            raise unknown("list", self.what, CATALOGUE)
        for what in CATALOGUE if self.what == "all" else (self.what,):
            print(f"{what}:")
            rows = dict(CATALOGUE[what]())
            width = max(map(len, rows))
            print("\n".join(f"  {name:{width}}  {line}" for name, line in rows.items()))


def _environments() -> Iterator[tuple[str, str]]:
    from plait.envs import environments

    yield from environments().items()


def _encoders() -> Iterator[tuple[str, str]]:
    from plait.encoders.language import Language
    from plait.encoders.vision import Vision

    for kind, union in {"vision": Vision, "language": Language}.items():
        for name, line in _parts(union):
            yield f"--{kind} {name}", line


def _fusions() -> Iterator[tuple[str, str]]:
    from plait.fusion import Fusion

    return _parts(Fusion)


def _heads() -> Iterator[tuple[str, str]]:
    from plait.heads import Head

    return _parts(Head)


def _recipes() -> Iterator[tuple[str, str]]:
    from plait.recipes import RECIPES

    for name, recipe in RECIPES.items():
        yield name, _first_line(recipe)


def _parts(union: Any) -> Iterator[tuple[str, str]]:
    for name, part in members(union).items():
        yield name, _first_line(part)


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


CATALOGUE: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "envs": _environments,
    "encoders": _encoders,
    "fusions": _fusions,
    "heads": _heads,
    "recipes": _recipes,
}
