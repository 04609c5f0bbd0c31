"""``plait list``: the names that the other commands take."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from plait.cli.parse import Verb, first_line
from plait.config import members, unknown


@dataclass(frozen=True)
class List(Verb):
    """List what there is: envs, encoders, fusions, memories, heads or recipes."""

    what: Positional[str] = "all"
    """envs, encoders, fusions, memories, heads, recipes, or all."""

    def run(self) -> None:
        named = self.what if self.what in ("all", *CATALOGUE) else f"{self.what}s"  # one fusion, two fusions
        if named not in ("all", *CATALOGUE):
            raise unknown("list", self.what, CATALOGUE)
        for what in CATALOGUE if named == "all" else (named,):
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

    yield from _parts("vision", Vision)
    yield from _parts("language", Language)


def _fusions() -> Iterator[tuple[str, str]]:
    from plait.fusion import Fusion

    return _parts("fusion", Fusion)


def _memories() -> Iterator[tuple[str, str]]:
    from plait.memory import Memory

    return _parts("memory", Memory)


def _heads() -> Iterator[tuple[str, str]]:
    from plait.heads import Head

    return _parts("head", Head)


def _recipes() -> Iterator[tuple[str, str]]:
    from plait.recipes import RECIPES

    for name, recipe in RECIPES.items():
        yield name, first_line(recipe)


def _parts(slot: str, union: Any) -> Iterator[tuple[str, str]]:
    """The parts as options of ``plait train``."""
    for name, part in members(union, slot).items():
        yield f"--{slot} {name}", first_line(part)


CATALOGUE: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "envs": _environments,
    "encoders": _encoders,
    "fusions": _fusions,
    "memories": _memories,
    "heads": _heads,
    "recipes": _recipes,
}
