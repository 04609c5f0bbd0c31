"""How figures look: no ground of their own, and colours that can be read on a light and on a dark page."""

import io
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
INK, RULE = "#7b818b", "#9aa0a955"
COLOURS = ("#3b82d6", "#e07b28", "#2b9a66", "#d1495b", "#8c62d0", "#a07a3b", "#d65fa8", "#3f9fb0", "#93a62b", "#808790")
MARKERS = "o^sDvPX*"  # the next one for each round of the colours
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": RULE,
}


def mark(number: int) -> tuple[str, str]:
    """The colour and the marker of the thing of this number, so that many can be told apart."""
    return COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]


def styled(function: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """The function draws in this style, and leaves that of others alone."""

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib as mpl  # only where it is used: it takes a second to load

        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def webp(figure: "Figure") -> bytes:
    """The figure as a lossless picture for ``page.picture``, two pixels for one of the page's."""
    file = io.BytesIO()
    figure.savefig(file, format="webp", dpi=160, pil_kwargs={"lossless": True})
    return file.getvalue()
