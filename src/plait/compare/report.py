"""From cells to a table: the episodes of all seeds together, with their interval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.table import Table

from plait.compare.cell import Cell, Contrast, Setup
from plait.compare.size import TOLERANCE
from plait.diagnose.cost import Cost, cost_cells
from plait.evaluate.statistics import wilson

SUCCESS = ("fusion", "demos", "mispaired", "success", "seeds", "unseen", "follows")
SIZE = ("fusion", "rate", "width", "parameters", "off", "training")
COST = ("fusion", "GFLOPs", "p50", "p99", "memory")
NOTES = (
    "success: scenes that training never saw, words as in training. seeds: the worst and the best training's success.",
    "unseen: the target is a pair of colour and shape that no demonstration has. follows: another object of the same "
    "scene is named, and that one is acted on.",
    "In brackets: 95 % Wilson interval over the episodes of all seeds together; all seeds and fusions meet the same "
    "scenes.",
    "rate: learning rate; where several were tried, the one with the least held-out action loss of the first seed.",
    f"width: found by bisection, so that the whole policy's parameters are within {TOLERANCE:.0%} of the recipe's; "
    "! marks a fusion that no width brings there.",
    "training: seconds of one, the median; with several side by side, each takes longer.",
    "GFLOPs, p50, p99, memory: one prediction for one robot by the whole policy.",
)


@dataclass(frozen=True)
class Share:
    """Hits of n episodes."""

    hits: int
    n: int

    @property
    def percent(self) -> float:
        return 100 * self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, in percent."""
        low, high = wilson(self.hits, self.n)
        return 100 * low, 100 * high

    def __str__(self) -> str:
        return "{:.0f} [{:.0f}, {:.0f}]".format(self.percent, *self.interval)


@dataclass(frozen=True)
class Line:
    """One kind of cell, its seeds together. ``seeds``: success of each, in percent; a diverged one has 0.

    Attributes:
        trials: ``seen``, ``unseen``, ``following``, as far as they were tried.
        off: how far the number of parameters is from the reference's.
        train_s: seconds of a training, the median; None where all diverged.
        diverged: trainings whose loss ceased to be finite; all their episodes count as failures of ``seen``.
    """

    fusion: str
    demonstrations: int
    mispaired: int
    contrast: Contrast
    trials: dict[str, Share]
    seeds: list[float]
    width: int
    parameters: int
    off: float
    rate: float
    train_s: float | None
    diverged: int
    cost: Cost

    @property
    def label(self) -> str:
        return self.contrast.replace("_", " ") or self.fusion

    def as_json(self) -> dict[str, Any]:
        trials = {
            name: {**asdict(share), "percent": share.percent, "ci95": share.interval}
            for name, share in self.trials.items()
        }
        return {**asdict(self), "trials": trials}


def pooled(found: Mapping[Cell, dict[str, Any]], costs: Mapping[str, Cost]) -> list[Line]:
    """One line for each kind of cell: by what is missing or wrong, by demonstrations, the most successful first."""
    kinds: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in found:
        kinds.setdefault((cell.fusion, cell.demonstrations, cell.mispaired, cell.contrast), []).append(cell)
    lines = [_line([found[cell] for cell in cells], cells[0], costs) for cells in kinds.values()]
    return sorted(lines, key=lambda line: (line.contrast, line.mispaired, line.demonstrations, -mean(line.seeds)))


def _line(results: Sequence[dict[str, Any]], cell: Cell, costs: Mapping[str, Cost]) -> Line:
    episodes = results[0]["settings"]["episodes"]
    played = next((result["trials"] for result in results if result["trials"]), {"seen": {"n": episodes}})
    failed = {name: {**count, "hits": 0} for name, count in played.items()}  # of what diverged, in every trial
    counts: dict[str, list[dict[str, int]]] = {}
    for result in results:
        for name, count in (result["trials"] or failed).items():
            counts.setdefault(name, []).append(count)
    trials = {n: Share(sum(c["hits"] for c in rows), sum(c["n"] for c in rows)) for n, rows in counts.items()}
    return Line(
        cell.fusion,
        cell.demonstrations,
        cell.mispaired,
        cell.contrast,
        {name: share for name, share in trials.items() if share.n},
        [100 * count["hits"] / episodes for count in counts["seen"]],
        results[0]["width"],
        results[0]["parameters"],
        results[0]["off"],
        results[0]["settings"]["rate"],
        median(times) if (times := [result["train_s"] for result in results if "train_s" in result]) else None,
        sum(result["error"] is not None for result in results),
        costs[cell.fusion],
    )


def tables(lines: Sequence[Line]) -> list[Table]:
    """For a terminal: what was reached, with what size, at what cost; three, to fit 80 columns."""
    return [_table(*part) for part in _parts(lines)]


def write_markdown(path: Path, setup: Setup, hardware: str, lines: Sequence[Line]) -> None:
    """The tables, what their columns mean, and with what they were made."""
    parts = [f"# Fusions on {setup.env}", "![](results.png)", *(_markdown(*part) for part in _parts(lines))]
    made = json.dumps(asdict(setup), ensure_ascii=False)
    parts += ["\n".join(f"- {note}" for note in NOTES), f"Made with `{made}` on {hardware}."]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


Rows = list[tuple[str, ...]]


def _parts(lines: Sequence[Line]) -> list[tuple[tuple[str, ...], Rows]]:
    """Headings and rows of each table."""
    fusions = {line.fusion: line for line in lines if not line.contrast}.values()
    costs = [(line.fusion, *cost_cells(line.cost)[1:]) for line in fusions]
    return [_success(lines), (SIZE, [_size(line) for line in fusions]), (COST, costs)]


def _success(lines: Sequence[Line]) -> tuple[tuple[str, ...], Rows]:
    """Headings and rows; the share of mispaired instructions is left out where none are."""
    rows: Rows = []
    for line in lines:
        seeds = f"{min(line.seeds):.0f} – {max(line.seeds):.0f}"
        seeds += f", {line.diverged} diverged" if line.diverged else ""
        seen, *others = (str(line.trials.get(name, "–")) for name in ("seen", "unseen", "following"))
        rows.append((line.label, f"{line.demonstrations:,}", f"{line.mispaired} %", seen, seeds, *others))
    shown = [place for place, name in enumerate(SUCCESS) if name != "mispaired" or any(x.mispaired for x in lines)]
    return tuple(SUCCESS[place] for place in shown), [tuple(row[place] for place in shown) for row in rows]


def _size(line: Line) -> tuple[str, ...]:
    parameters, *_ = cost_cells(replace(line.cost, parameters=line.parameters))
    off = f"{line.off:+.1%}" + (" !" if abs(line.off) > TOLERANCE else "")
    training = "–" if line.train_s is None else f"{line.train_s:.0f} s"
    return line.fusion, f"{line.rate:g}", str(line.width), parameters, off, training


def _table(headings: tuple[str, ...], rows: Rows) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, heading in enumerate(headings):
        # what is too wide goes on in a second line; only a name cannot
        drawn.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def _markdown(headings: tuple[str, ...], rows: Rows) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, ("---",) * len(headings), *rows))
