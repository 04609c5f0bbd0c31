"""What may lie on the table: colours, shapes, and the combinations of both that training never shows."""

from dataclasses import dataclass
from itertools import combinations as pairs_of
from itertools import product
from typing import Literal

from numpy.random import Generator

Pair = tuple[str, str]  # (colour, shape)
COMBINATIONS = ("seen", "unseen", "distractor", "all")


@dataclass(frozen=True)
class Colour:
    rgb: tuple[float, float, float]
    korean: str


@dataclass(frozen=True)
class Shape:
    """A MuJoCo primitive, in metres.

    Attributes:
        size: what MuJoCo means by the size of this ``geom``.
        half_width: half of what the fingers enclose (along x).
        half_depth: half of its extent along y.
        half_height: its centre's height when it lies on the table.
        stacks: it is flat above and below.
    """

    geom: Literal["box", "sphere", "cylinder"]
    size: tuple[float, float, float]
    half_width: float
    half_depth: float
    half_height: float
    stacks: bool
    korean: str


COLOURS = {
    "red": Colour((0.80, 0.07, 0.07), "빨간"),
    "green": Colour((0.10, 0.55, 0.14), "초록색"),
    "blue": Colour((0.10, 0.22, 0.80), "파란"),
    "yellow": Colour((0.95, 0.83, 0.06), "노란"),
    "purple": Colour((0.45, 0.12, 0.62), "보라색"),
    "orange": Colour((0.96, 0.43, 0.03), "주황색"),
    "white": Colour((0.96, 0.96, 0.96), "하얀"),
    "cyan": Colour((0.16, 0.76, 0.80), "하늘색"),
}
SHAPES = {
    "cube": Shape("box", (0.023, 0.023, 0.023), 0.023, 0.023, 0.023, True, "큐브"),
    "ball": Shape("sphere", (0.022, 0.0, 0.0), 0.022, 0.022, 0.022, False, "공"),
    "cylinder": Shape("cylinder", (0.017, 0.028, 0.0), 0.017, 0.017, 0.028, True, "원기둥"),
    "disc": Shape("cylinder", (0.031, 0.009, 0.0), 0.031, 0.031, 0.009, True, "원판"),
    "brick": Shape("box", (0.014, 0.042, 0.014), 0.014, 0.042, 0.014, True, "벽돌"),
}


@dataclass(frozen=True)
class Vocabulary:
    """Colours times shapes, without the pairs that ``combinations="seen"`` keeps out of every scene."""

    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    held_out: frozenset[Pair]

    def sample(self, rng: Generator, combinations: str, shapes: tuple[str, ...]) -> tuple[list[Pair], list[Pair]]:
        """Four objects: two colours times two of ``shapes``.

        Each object shares its colour with one other and its shape with one other, so that a picture does not tell
        which one is meant.

        Returns:
            the pairs, and those that may be the target.
        """
        if combinations == "unseen":
            held_out = sorted(pair for pair in self.held_out if pair[1] in shapes)
            colour, shape = held_out[rng.integers(len(held_out))]
            others = [c for c in self.colours if c != colour], [s for s in shapes if s != shape]
            other_colour, other_shape = (names[rng.integers(len(names))] for names in others)
            return list(product((colour, other_colour), (shape, other_shape))), [(colour, shape)]
        designs = [list(product(*grid)) for grid in product(pairs_of(self.colours, 2), pairs_of(shapes, 2))]
        if combinations == "seen":
            designs = [design for design in designs if self.held_out.isdisjoint(design)]
        pairs = designs[rng.integers(len(designs))]
        return pairs, [pair for pair in pairs if combinations != "distractor" or pair not in self.held_out]


def _pairs(text: str) -> frozenset[Pair]:
    return frozenset((colour, shape) for colour, shape in (pair.split() for pair in text.split(", ")))


VOCABULARIES = {
    "small": Vocabulary(
        colours=("red", "green", "blue", "yellow"),
        shapes=("cube", "ball", "cylinder"),
        held_out=_pairs("green ball, blue cube, yellow cube"),
    ),
    "medium": Vocabulary(
        colours=("red", "green", "blue", "yellow", "purple", "white"),
        shapes=("cube", "ball", "cylinder"),
        held_out=_pairs("green ball, blue cube, yellow cylinder"),
    ),
    "large": Vocabulary(
        colours=tuple(COLOURS),
        shapes=tuple(SHAPES),
        held_out=_pairs(
            "green ball, blue cube, yellow cylinder, purple disc, orange brick, white cube, cyan ball, red disc"
        ),
    ),
}
