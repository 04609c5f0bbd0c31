"""Configs to plain data and back, strictly, with errors that help."""

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from plait.config import from_dict, members, part_name, to_dict, unknown


@dataclass(frozen=True)
class SquareConfig:
    side: int = 1


@dataclass(frozen=True)
class WideOvalConfig:
    radii: tuple[float, float] = (1.0, 2.0)
    names: tuple[str, ...] = ()


Form = SquareConfig | WideOvalConfig


@dataclass(frozen=True)
class Drawing:
    title: str
    form: Form = field(default_factory=SquareConfig)
    second: Form | None = None
    scale: float = 1.0
    ink: Literal["black", "red"] = "black"
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    filled: bool = False


DRAWING = Drawing("a", WideOvalConfig((3.0, 4.0), ("x", "y")), SquareConfig(2), 2.0, "red", {"front": (1, 2)}, True)


@pytest.mark.parametrize("drawing", [Drawing("plain"), DRAWING])
def test_round_trip_through_json(drawing: Drawing) -> None:
    assert from_dict(Drawing, json.loads(json.dumps(to_dict(drawing)))) == drawing


def test_a_part_carries_its_name() -> None:
    assert part_name(WideOvalConfig) == "wide_oval"
    assert to_dict(DRAWING)["form"] == {"type": "wide_oval", "radii": [3.0, 4.0], "names": ["x", "y"]}
    assert members(Form | None) == {"square": SquareConfig, "wide_oval": WideOvalConfig}
    assert members(SquareConfig) == {"square": SquareConfig}


def test_an_integer_may_stand_for_a_float() -> None:
    scale = from_dict(Drawing, {"title": "a", "scale": 2}).scale
    assert (scale, type(scale)) == (2.0, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"title": "a", "form": {"type": "squar"}}, r"drawing\.form: no part 'squar'; .* Did you mean 'square'\?"),
        ({"title": "a", "form": {"type": "square", "sid": 1}}, r"drawing\.form: no field 'sid'; .*'side'"),
        ({"title": "a", "scal": 1}, r"drawing: no field 'scal'; .* Did you mean 'scale'"),
        ({"title": "a", "ink": "blue"}, r"drawing\.ink: no value 'blue'; choose one of \['black', 'red'\]"),
        ({"title": 3}, r"drawing\.title: 3 is int; expected str"),
        ({"title": "a", "form": {"type": "square", "side": True}}, r"side: True is bool; expected int"),
        (
            {"title": "a", "form": {"type": "wide_oval", "radii": [1.0]}},
            r"radii: \[1\.0\] is list; .* list of 2",
        ),
        ({"title": "a", "sizes": [1]}, r"sizes: \[1\] is list; expected a table"),
        ({}, r"drawing: missing 1 required positional argument: 'title'"),
        (3, r"drawing: 3 is int; expected the fields of Drawing"),
    ],
)
def test_what_is_wrong_is_named(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(Drawing, data)


def test_unknown_names_the_nearest_only_when_it_is_near() -> None:
    assert "Did you mean 'film'?" in str(unknown("part", "flim", ["film", "late"]))
    assert "Did you mean" not in str(unknown("part", "zzz", ["film", "late"]))
