"""``plait compare``: record once, train and evaluate every cell, and draw the conclusion in a table and a picture."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from plait.compare.bench import Bench
from plait.compare.cell import CONTRASTS, Cell, Contrast, Setup, grid, search
from plait.compare.parallel import run_parallel
from plait.compare.plot import draw
from plait.compare.report import Line, pooled, write_markdown
from plait.config import refuse_small
from plait.data.cache import Images
from plait.diagnose.cost import Cost
from plait.evaluate.protocol import versions
from plait.files import read_json, write_whole
from plait.nn.device import hardware, pick_device
from plait.processes import processors
from plait.progress import Bar
from plait.record.recorder import record


def compare(
    setup: Setup,
    out: Path | str,
    fusions: Sequence[str],
    demonstrations: Sequence[int],
    seeds: int = 3,
    *,
    mispaired: Sequence[int] = (),
    contrasts: Sequence[Contrast] = CONTRASTS,
    jobs: int = 1,
    workers: int | None = None,
    device: str = "auto",
) -> list[Line]:
    """Compare fusions at equal data, updates and size; the same call continues, and more cells may be added.

    Args:
        out: folder of everything; ``results.json``, ``results.md`` and ``results.png`` in it are written at the end.
        demonstrations: one or several numbers.
        seeds: trainings of each kind.
        mispaired: percents of the episodes that get another episode's instruction.
        contrasts: what is tried without, beside the fusions.
        jobs: cells at the same time.
        workers: processes that simulate.

    Returns:
        the table's lines, those of earlier calls too.

    Raises:
        ValueError: an unknown name, a number out of range, a cell that could not be trained, or a folder that holds
            something else.
        KeyboardInterrupt: interrupted; what is finished stays, and the same call continues.
    """
    cells, folder = grid(setup, fusions, demonstrations, seeds, mispaired, contrasts), _open(Path(out))
    refuse_small(jobs=(jobs, 1), workers=(workers, 1))
    pick_device(device)  # refuses one that is not there
    bench = Bench(folder, setup, device, workers)
    known = bench.known()
    tries = search(setup, cells, known)
    _refuse_other(bench, known, {cell.fusion for cell in tries})
    new = [cell for cell in cells if cell not in known]
    bench.rehearse(new)
    for count in sorted({min(demonstrations), max(demonstrations)}):  # the fewest first: what is too few is soon told
        record(setup.env, folder / "dataset", count, setup.env_args, workers or processors())
        bench = Bench(folder, setup, device, workers)
        bench.check(cell for cell in new if cell.demonstrations <= count)
    tried = _found(bench, tries, jobs)
    setup = replace(setup, learning_rates={**_chosen(tried), **setup.learning_rates})
    bench = Bench(folder, setup, device, workers)
    _found(bench, cells, jobs)
    found = {cell: result for cell in bench.known() if cell.rate is None and (result := bench.finished(cell))}
    lines = pooled(found, _costs(bench, list(dict.fromkeys(cell.fusion for cell in found))))
    _write(bench, lines, found | tried)
    return lines


def _open(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()) and not any((folder / part).is_dir() for part in ("dataset", "cells")):
        rule = "it is not empty and holds no comparison (neither dataset/ nor cells/)"
        raise ValueError(f"{folder}: {rule}; say --out another folder")
    return folder


def _refuse_other(bench: Bench, known: list[Cell], searched: set[str]) -> None:
    """Raise a ValueError for a finished cell with other settings; which rate a searched fusion has is not known yet."""
    for cell in known:
        if cell.rate is not None or cell.fusion not in searched:
            bench.finished(cell)


def _found(bench: Bench, cells: list[Cell], jobs: int) -> dict[Cell, dict[str, Any]]:
    """What each cell has found, now or before."""
    found = {cell: result for cell in cells if (result := bench.finished(cell)) is not None}
    try:
        found.update(_run(bench, [cell for cell in cells if cell not in found], jobs))  # one after another
    except KeyboardInterrupt:
        done = f"{len(found)} of {len(cells)} cells are finished"
        raise KeyboardInterrupt(f"interrupted; {done} and the same command continues") from None
    return found


def _chosen(found: dict[Cell, dict[str, Any]]) -> dict[str, float]:
    """Of each fusion, the learning rate with the least held-out action loss; a diverged training is the worst."""
    losses: dict[str, dict[float, float]] = {}
    for cell, result in found.items():
        assert cell.rate is not None
        loss = inf if result["error"] else result["validation"]["validation/action"]
        losses.setdefault(cell.fusion, {})[cell.rate] = loss
    return {fusion: min(tried, key=lambda rate: tried[rate]) for fusion, tried in losses.items()}


def _run(bench: Bench, cells: list[Cell], jobs: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    if jobs == 1:
        for number, cell in enumerate(cells, 1):
            print(f"cell {number} of {len(cells)}: {cell}", file=sys.stderr, flush=True)
            yield cell, bench.run(cell)
    elif cells:
        size = bench.recipe.policy.image_size
        Images(bench.data, list(bench.data.spec.cameras), (size, size))  # decoded once, not once in each job
        with Bar("comparing", len(cells), "cells") as bar:
            for cell, result in run_parallel(bench, cells, jobs):
                bar.advance(status=f"{cell}")
                yield cell, result


def _costs(bench: Bench, fusions: list[str]) -> dict[str, Cost]:
    """Measured when nothing else runs, once for each folder."""
    path = bench.folder / "costs.json"
    known = read_json(path) if path.exists() else {}
    whole = {field.name for field in fields(Cost)}
    known = {name: known[name] for name in known if set(known[name]) == whole} if isinstance(known, dict) else {}
    known |= {name: asdict(bench.cost(name)) for name in fusions if name not in known}
    write_whole(path, json.dumps(known, indent=1) + "\n")
    return {name: Cost(**known[name]) for name in fusions}


def _write(bench: Bench, lines: list[Line], found: dict[Cell, dict[str, Any]]) -> None:
    folder, setup = bench.folder, bench.setup
    described = {"setup": asdict(setup), "hardware": hardware(bench.device), "versions": versions()}
    described["lines"] = [line.as_json() for line in lines]
    cells = {cell.name: result for cell, result in found.items()}
    text = json.dumps({**described, "cells": cells}, indent=1, ensure_ascii=False) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    write_markdown(folder / "results.md", setup, described["hardware"], lines)
    draw(lines, folder / "results.png")
