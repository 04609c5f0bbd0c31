"""Pictures of success, as matplotlib figures: with its intervals, and while something fails."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from plait.diagnose.style import COLOURS, mark, styled
from plait.evaluate.statistics import wilson
from plait.spec import camera_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TO_THE_END = 25  # where a failure that lasts stands on the axis of control steps
LETTERS = 30  # of a name on one line; longer ones are wrapped, so that the plot keeps its width


@styled
def success_with_intervals(counts: Mapping[str, tuple[int, int]], xlabel: str = "success, %") -> "Figure":
    """A dot for each share and a line for its 95 % Wilson interval, the first on top.

    >>> figure = success_with_intervals({"told": (94, 100), "not told": (25, 100)})
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['told', 'not told']

    Args:
        counts: name -> (successes, episodes). Long names are wrapped.

    Raises:
        ValueError: no counts, or more successes than episodes.
    """
    from matplotlib.figure import Figure  # only where it is used: it takes a second to load

    if not counts:
        raise ValueError("counts: there are none to draw; give at least one, as name -> (successes, episodes)")
    names = [fill(name, LETTERS) for name in counts]
    height = max(0.4, *(0.2 * (1 + name.count("\n")) for name in names))
    label = fill(f"{xlabel}, with 95 % interval", 2 * LETTERS)
    figure = Figure(figsize=(6.4, 1.0 + height * len(counts)), layout="constrained")
    axes = figure.add_subplot(xlim=(-2, 102), xlabel=label)
    for row, (hits, n) in enumerate(counts.values()):
        low, high = wilson(hits, n)
        axes.plot((100 * low, 100 * high), (row, row), color=COLOURS[0], lw=3, alpha=0.4, solid_capstyle="round")
        if n:
            axes.plot(100 * hits / n, row, "o", color=COLOURS[0], ms=6, clip_on=False)
    axes.set_yticks(range(len(counts)), names)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return figure


@styled
def success_under_failure(
    curves: Mapping[str, Sequence[tuple[float, int, int]]], xlabel: str = "share of the time that it fails, %"
) -> "Figure":
    """A curve for each kind of failure against how bad it is, with its 95 % Wilson interval as a band.

    >>> figure = success_under_failure({"camera black": [(0, 95, 100), (50, 60, 100), (100, 5, 100)]})
    >>> figure.axes[0].get_ylabel()
    'success, %'

    Args:
        curves: name -> (how bad, successes, episodes) of each measurement, in any order.
        xlabel: what measures how bad it is.

    Raises:
        ValueError: no curves, one without measurements, or a measurement without episodes or with more successes than
            episodes.
    """
    from matplotlib.figure import Figure

    if not curves:
        raise ValueError("curves: there are none to draw; give at least one")
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(ylim=(-2, 102), xlabel=xlabel, ylabel="success, %")
    for number, (name, measured) in enumerate(curves.items()):
        if not measured:
            raise ValueError(
                f"curves: {name!r} has no measurement; give one as (how bad, successes, episodes), or leave it out"
            )
        if empty := [bad for bad, _, n in measured if not n]:
            raise ValueError(f"success: {name!r} was measured at {empty[0]} in no episode; leave that out")
        places, hits, episodes = zip(*sorted(measured), strict=True)
        low, high = zip(*map(wilson, hits, episodes), strict=True)
        colour, marker = mark(number)
        axes.fill_between(places, [100 * x for x in low], [100 * x for x in high], color=colour, alpha=0.16, lw=0)
        shares = [100 * hit / n for hit, n in zip(hits, episodes, strict=True)]
        axes.plot(places, shares, marker=marker, color=colour, ms=4.5, lw=1.8, label=fill(name, LETTERS), clip_on=False)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    beside = 3 if max(map(len, curves)) <= LETTERS // 2 else 2
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=beside, frameon=False)
    return figure


def black_cameras(report: Mapping[str, Any]) -> dict[str, list[tuple[float, int, int]]]:
    """The curves for ``success_under_failure`` of what ``evaluate_failures`` found: how long each camera, and all of
    them, are black, in control steps; 0 where nothing fails, ``TO_THE_END`` where it never ends.
    """
    curves: dict[str, list[tuple[float, int, int]]] = {}
    for row in report["failures"]:
        if row["kind"] == "black":
            cameras = " and ".join(map(camera_name, row["modality"].split("+")))
            clean = next(r for r in report["failures"] if (r["kind"], r["envelope"]) == ("none", row["envelope"]))
            durations = {TO_THE_END if key == "None" else int(key): one for key, one in row["per_duration"].items()}
            found = {0: clean, **durations}
            curves[f"{cameras}, {'with' if row['envelope'] else 'no'} envelope"] = [
                (steps, round(one["pc_success"] * one["n_episodes"] / 100), one["n_episodes"])
                for steps, one in found.items()
                if one["n_episodes"]
            ]
    return curves
