"""The comparison as a picture: success with its interval, against the fusion, the demonstrations and the mispairing."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.compare.report import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, RULE = "#1b1f24", "#6b7580", "#e3e7eb"
SERIES = {"seen": ("seen pairs", "#1f6fd6"), "unseen": ("unseen pairs", "#e07b28"), "following": ("follows", "#2b9a66")}
COLOURS = ("#1f6fd6", "#e07b28", "#2b9a66", "#c23b4e", "#8250c4", "#8a6d3b", "#d14d9b", "#4a5560", "#8fa31e", "#17a2b8")
BANDS = 5  # fusions at most whose intervals are drawn as bands
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": RULE,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": FAINT,
    "ytick.color": INK,
    "grid.color": RULE,
}


def draw(lines: Sequence[Line], path: Path) -> None:
    """Write ``path``, a PNG: one panel for the fusions, and one for each quantity that was varied."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plain = [line for line in lines if not line.mispaired and not line.contrast]
    most = max(line.demonstrations for line in plain)
    bars = [line for line in lines if line.demonstrations == most and not line.mispaired]
    curves: list[tuple[str, str, Sequence[Line], Callable[[Line], int]]] = []
    if len({line.demonstrations for line in plain}) > 1:
        curves.append(("How much data", "demonstrations", plain, lambda line: line.demonstrations))
    noisy = [line for line in lines if line.demonstrations == most and not line.contrast]
    if any(line.mispaired for line in noisy):
        curves.append(("How well paired", "mispaired instructions, %", noisy, lambda line: line.mispaired))
    colours = dict(zip(dict.fromkeys(line.fusion for line in plain), cycle(COLOURS)))  # the same in every panel
    with mpl.rc_context(STYLE):
        height = max(3.6, 1.4 + 0.42 * len(bars))
        figure = Figure(figsize=(6.4 + 4.6 * len(curves), height), dpi=160, layout="constrained")
        axes = figure.subplots(1, 1 + len(curves), squeeze=False, width_ratios=[1.35, *[1.0] * len(curves)])[0]
        _fusions(axes[0], bars, most)
        for panel, (title, name, rows, of) in zip(axes[1:], curves, strict=True):
            _curves(panel, rows, of, colours, title, name)
        figure.savefig(path)


def _fusions(axes: "Axes", lines: Sequence[Line], demonstrations: int) -> None:
    """A row for each fusion, the best one on top, contrasts below; a dot and its interval for each trial."""
    ordered = sorted(lines, key=lambda line: (bool(line.contrast), -line.trials["seen"].percent))
    for series, (name, (label, colour)) in enumerate(SERIES.items()):
        rows = [(row, line.trials[name]) for row, line in enumerate(ordered) if name in line.trials]
        for row, share in rows:
            y = row + 0.22 * (series - 1)
            axes.plot(share.interval, (y, y), color=colour, lw=2.2, alpha=0.35, solid_capstyle="round")
        heights = [row + 0.22 * (series - 1) for row, _ in rows]
        axes.plot([share.percent for _, share in rows], heights, "o", color=colour, ms=5.5, label=label, clip_on=False)
    axes.set_yticks(range(len(ordered)), [line.label.replace("_", " ") for line in ordered])
    for tick, line in zip(axes.get_yticklabels(), ordered, strict=True):  # contrasts step back
        tick.set_color(FAINT if line.contrast else INK)
    axes.set_ylim(len(ordered) - 0.45, -0.55)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"success, %, with 95 % interval; {demonstrations:,} demonstrations")
    axes.set_title("Which fusion", pad=26)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(SERIES), frameon=False, handletextpad=0.2)


def _curves(
    axes: "Axes", lines: Sequence[Line], of: Callable[[Line], int], colours: dict[str, str], title: str, name: str
) -> None:
    """A curve of success for each fusion, and its interval as a band unless there are too many to tell apart."""
    counts = Counter(line.fusion for line in lines)
    fusions = [fusion for fusion in counts if counts[fusion] > 1]
    for fusion in fusions:
        rows = sorted((line for line in lines if line.fusion == fusion), key=of)
        places, shares = [of(line) for line in rows], [line.trials["seen"] for line in rows]
        low, high = zip(*(share.interval for share in shares), strict=True)
        if len(fusions) <= BANDS:
            axes.fill_between(places, low, high, color=colours[fusion], alpha=0.14, lw=0)
        label = fusion.replace("_", " ")
        axes.plot(places, [share.percent for share in shares], "o-", color=colours[fusion], ms=4.5, lw=1.8, label=label)
    ticks = sorted({of(line) for line in lines})
    if min(ticks) > 0:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.xaxis.minorticks_off()
    axes.set_ylim(-2, 102)
    axes.set_xlabel(name)
    axes.set_ylabel("success, seen pairs, %")
    axes.set_title(title, pad=26)
    axes.tick_params(length=0)
    axes.grid(axis="y")
    axes.legend(loc="lower right" if min(ticks) > 0 else "lower left", frameon=False, fontsize=9)
