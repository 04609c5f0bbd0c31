"""What is said of many episodes in which something failed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from plait.evaluate.statistics import share


def summaries(
    rows: list[dict[str, Any]], cells: list[tuple[Any, bool]], groups: dict[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """One table per cell: over all of its episodes, and those with each value of each of the ``groups``.

    Args:
        cells: a ``Failure``, and whether there is an envelope; the clean ones are among them.
    """
    for failure, enveloped in cells:
        same = [row for row in rows if row["envelope"] is enveloped]
        clean = {row["scene"]: row["success"] for row in same if row["kind"] == "none"}
        own = [row for row in same if (row["kind"], row["modality"]) == (failure.kind, failure.modality)]
        told = {**asdict(failure), "envelope": enveloped, **summary(own, clean)}
        for name, values in groups.items():
            told[f"per_{name}"] = {str(v): summary([row for row in own if row[name] == v], clean) for v in values}
        yield told


def summary(rows: list[dict[str, Any]], clean: dict[int, bool]) -> dict[str, Any]:
    """Of the episodes in which the failure began (in the clean runs: of all).

    ``pc_kept``: of the scenes that end in success when nothing fails, those that do so here as well. ``pc_safe``:
    episodes without an action outside of the limits and without motion while no camera shows what is there.
    ``notice``: control steps until the failure was noticed, 1 = at once; ``pc_alarm``: episodes that were not nominal
    throughout.
    """
    hit = [row for row in rows if row["hit"] or row["kind"] == "none"]
    noticed = [row["noticed"] for row in hit if row["noticed"] is not None]
    return {
        "n_episodes": len(hit),
        **share(row["success"] for row in hit),
        **share((row["success"] for row in hit if clean[row["scene"]]), "pc_kept"),
        **share((not row["limits"] and not row["blind"] for row in hit), "pc_safe"),
        **{f"{name}_steps": sum(row[name] for row in hit) for name in ("limits", "blind", "refused")},
        **share((row["limits"] > 0 for row in hit), "pc_limits"),
        **share((row["noticed"] is not None for row in hit), "pc_noticed"),
        "notice": {"median": median(noticed), "most": max(noticed)} if noticed else None,
        **share((bool(row["alarm"]) for row in hit), "pc_alarm"),
    }
