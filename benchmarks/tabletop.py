"""The tabletop's four families with one policy: record, train, evaluate, and a table of the results.

python benchmarks/tabletop.py --out runs/tabletop --hardware "one H100"

Each phase continues what an earlier call has begun, so the phases can also run one by one, or on different machines.
"""

import json
from pathlib import Path
from typing import Any, Literal

import tyro

from plait import checkpoint
from plait.evaluate.rollout import evaluate
from plait.nn.device import pick_device
from plait.recipes import RECIPES
from plait.record.recorder import record
from plait.train.policy import train

FAMILIES = ("pick", "place", "push", "stack")
SCENES = {"vocabulary": "large", "size": 96}
COLUMNS = {  # title -> instructions, combinations
    "as in training": ("normal", "seen"),
    "another object named, same scene": ("exchanged", "seen"),
    "unseen combinations": ("normal", "unseen"),
    "new sentences, known words": ("paraphrase", "seen"),
    "no instruction": ("absent", "seen"),
}
Phase = Literal["record", "train", "evaluate", "report"]


def main(
    out: Path,
    hardware: str,
    phases: tuple[Phase, ...] = ("record", "train", "evaluate", "report"),
    demonstrations: int = 13_433,
    scenes: int = 500,
    workers: int = 16,
    results: Path | None = None,
) -> None:
    """Run the phases.

    Args:
        out: folder of the dataset, the run and the evaluations.
        hardware: what the table names.
        demonstrations: of all families together.
        scenes: of each evaluation; their seeds are never those of demonstrations.
        workers: processes that simulate.
        results: the table's file, without suffix; ``out / "results"`` when omitted.
    """
    if "record" in phases:
        print(record("tabletop", out / "data", demonstrations, {"family": "mixed", **SCENES}, workers, cache=True))
    if "train" in phases:
        recipe = RECIPES["tabletop"]()
        train(recipe.policy, recipe.train, out / "data", out / "run")
    if "evaluate" in phases:
        policy = checkpoint.load(out / "run").to(pick_device("auto"))
        for title, (instructions, combinations) in COLUMNS.items():
            for family in FAMILIES:
                folder = out / "eval" / _name(title, family)
                if not (folder / "eval.json").exists():
                    env_args = {"family": family, "combinations": combinations, **SCENES}
                    evaluate(
                        policy,
                        "tabletop",
                        env_args,
                        episodes=scenes,
                        instructions=instructions,
                        workers=workers,
                        out=folder,
                        checkpoint=checkpoint.fingerprint(out / "run"),
                    )
    if "report" in phases:
        _report(out, hardware, results or out / "results")


def _report(out: Path, hardware: str, target: Path) -> None:
    found = {
        (title, family): json.loads(path.read_text())
        for title in COLUMNS
        for family in FAMILIES
        if (path := out / "eval" / _name(title, family) / "eval.json").exists()
    }
    lines = [f"| family | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for what, key in (("success", "pc_success"), ("acted on the object named", "pc_named")):
        for family in FAMILIES:
            cells = [_cell(found.get((title, family)), key) for title in COLUMNS]
            lines.append(f"| {family}: {what} | {' | '.join(cells)} |")
    protocol = next(iter(found.values()))["protocol"]
    made_with = checkpoint.provenance(out / "run")
    table = "\n".join(lines)
    text = f"{table}\n\nEvaluated on: {hardware}\n\nProtocol (first cell): `{json.dumps(protocol)}`\n"
    target.with_suffix(".md").write_text(text)
    cells = [{"column": title, "family": family, **result["aggregated"]} for (title, family), result in found.items()]
    content = {"hardware": hardware, "made_with": made_with, "protocol": protocol, "cells": cells}
    target.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    print(table)


def _cell(result: dict[str, Any] | None, key: str) -> str:
    if result is None:
        return "not run"
    low, high = result["aggregated"][f"{key}_ci95"]
    return f"{result['aggregated'][key]:.1f} [{low:.1f}, {high:.1f}]"


def _name(title: str, family: str) -> str:
    instructions, combinations = COLUMNS[title]
    return f"{instructions}-{combinations}-{family}"


if __name__ == "__main__":
    tyro.cli(main)
