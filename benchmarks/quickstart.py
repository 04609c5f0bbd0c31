"""The main job, as a newcomer gets it: what ``plait quickstart`` has measured and how long each part of it took.

    make quickstart
    python benchmarks/quickstart.py --hardware "2 CPU cores"

This measures nothing: it reads the folder that the quickstart leaves, so it belongs on the same machine. The seconds of
the phases are the quickstart's own and hold everything but the start of Python and the drawing of the page.
"""

import json
from pathlib import Path
from typing import Any

import torch
import tyro
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.diagnose.report import FAST, NUMBERS
from plait.files import read_json
from plait.nn.device import has_bfloat16
from plait.quickstart.chain import NOTES
from plait.quickstart.report import duration

COUNTED = {"record": "frames", "train": "samples"}
TRIALS = {  # folder of the evaluation -> what it is
    "normal": "New scenes",
    "exchanged": "Instruction exchanged",
    "absent": "No instruction",
    "shuffled": "Words shuffled",
    "paraphrase": "Paraphrased",
    "unseen": "Unseen combinations",
}


def phases_table(notes: dict[str, dict[str, Any]], answers: dict[str, dict[str, Any]]) -> str:
    rows = []
    for phase, what in COUNTED.items():
        count, seconds = notes[phase][what], notes[phase]["seconds"]
        rows.append([phase, f"{seconds:.1f} s", f"{count:,} {what}", f"{count / seconds:,.0f} {what}/s"])
    rows += [[answer["question"], f"{answer['seconds']:.1f} s", "", ""] for answer in answers.values()]
    return table(("phase", "time", "count", "speed"), rows)


def trials_table(results: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, total in results.items():
        interval = "{:.1f} – {:.1f}".format(*total["pc_success_ci95"])
        shares = [f"{total[key]:.1f} %" for key in ("pc_named", "pc_first_named")]
        rows.append([TRIALS[name], total["n_episodes"], f"{total['pc_success']:.1f} %", interval, *shares])
    return table(("evaluation", "scenes", "success", "95 % interval", "lifts named", "named before"), rows)


def finished(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The quickstart's notes, and the answers of its diagnosis.

    Raises:
        ValueError: there are none, or something is not done.
    """
    notes, found = (read_json(folder / name) if (folder / name).exists() else {} for name in (NOTES, NUMBERS))
    answers = found.get("answers", {})
    open_phases = [name for name in COUNTED if not notes.get(name, {}).get("done")]
    open_phases += [name for name in FAST if name not in answers]
    if open_phases:
        raise ValueError(f"{folder}: not done: {', '.join(open_phases)}; run plait quickstart --out {folder} first")
    return notes, answers


def main(
    folder: Path = Path("quickstart"),
    hardware: str = "2 CPU cores",
    wall: float | None = None,
    report: Path = RESULTS,
) -> None:
    """Read what the quickstart wrote; prints the tables and writes them.

    Args:
        folder: that of the quickstart.
        hardware: as it shall stand in the file's name.
        wall: seconds of the whole command, where they were measured around it.
        report: folder of the results file.
    """
    notes, answers = finished(folder)
    evaluations = {name: read_json(folder / "eval" / name / "eval.json") for name in TRIALS}
    results = {name: evaluation["aggregated"] for name, evaluation in evaluations.items()}
    protocol, made_with = evaluations["normal"]["protocol"], checkpoint.provenance(folder / "run")
    total = sum(entry["seconds"] for entry in (*notes.values(), *answers.values()))
    number = "bfloat16" if has_bfloat16(torch.device(protocol["device"])) else "float32"
    about = (
        f"**{duration(total)}** in all phases"
        + (f", {duration(wall)} by the clock" if wall is not None else "")
        + f": {notes['record']['episodes']:,} demonstrations, {notes['train']['settings']['steps']:,} updates of "
        f"{notes['train']['settings']['batch_size']} samples, {notes['train']['parameters'] / 1e6:.2f} M parameters, "
        f"seed {protocol['seed']}, {number} on {protocol['device']}. Success with its 95 % Wilson interval."
    )
    sections = [
        about,
        trials_table(results),
        phases_table(notes, answers),
        f"Protocol (first row): `{json.dumps(protocol)}`",
    ]
    print("\n\n".join(sections[:3]))
    data = {"seconds": total, "wall": wall, "phases": notes, "answers": answers, "results": results}
    data |= {"protocol": protocol, "made_with": made_with, "format": number}
    publish("quickstart", "Quickstart", hardware, "\n\n".join(sections), data, report)


if __name__ == "__main__":
    tyro.cli(main)
