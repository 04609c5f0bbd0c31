"""The quickstart's page: what was measured, in plain words first."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from plait import checkpoint
from plait.diagnose import page
from plait.diagnose.shown import bar, count, films
from plait.nn.device import has_bfloat16, pick_device
from plait.train.tracker import read_log

GOOD = 90.0  # percent: from here on it is said to work
Results = dict[str, dict[str, Any]]


def write_page(folder: Path, notes: dict[str, dict[str, Any]], results: Results, example: list[str]) -> Path:
    """Write ``folder/report.html``.

    Args:
        notes: of the phases: seconds and counts.
        results: ``eval.json`` of each evaluation.
        example: arguments of ``plait act`` for a scene that was saved.
    """
    total = {name: result["aggregated"] for name, result in results.items()}
    seconds = sum(entry["seconds"] for entry in notes.values())
    sections = [
        page.section("Does it do what it is told?", *_obedience(total)),
        page.section("Watch it", *_pictures(folder, results)),
        page.section("How it learned", *_learning(folder / "run", notes)),
        page.section("Where the time went", *_time(notes)),
        page.section("Every figure", *_figures(total)),
        page.section("Go on", page.commands(_commands(folder, example))),
    ]
    document = page.page("plait quickstart", verdict(total), _lead(total, seconds), sections)
    path = folder / "report.html"
    path.write_text(document, encoding="utf-8")
    return path


def verdict(total: Results) -> str:
    """The one sentence to remember, as good or bad as the figures are."""
    success = f"{count(total['normal'], 'pc_success')} new scenes"
    if total["normal"]["pc_success"] < GOOD:
        return f"The policy has not learned the task yet: it succeeds in {success}."
    if total["exchanged"]["pc_named"] < GOOD:
        obeyed = count(total["exchanged"], "pc_named")
        return f"The policy succeeds in {success}, but follows changed words only in {obeyed}."
    return f"The policy that you have just trained picks up what it is told to in {success}."


def duration(seconds: float) -> str:
    """``252.3`` -> ``4 min 12 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _lead(total: Results, seconds: float) -> str:
    low, high = total["normal"]["pc_success_ci95"]
    before = total["exchanged"]["pc_first_named"]
    return (
        f"Measured in {total['normal']['n_episodes']} scenes that training never saw, judged by the simulator "
        f"(95 % interval: {low:.0f} to {high:.0f} %). When another object of the same scene is named, it lifts the one "
        f"named before in {before:.0f} % of them. All of it was recorded, trained and measured on this machine in "
        f"{duration(seconds)}."
    )


def _obedience(total: Results) -> list[str]:
    rows = [
        bar(total["normal"], "pc_success", "Success", "new scenes, the instruction as in training"),
        bar(total["exchanged"], "pc_named", "Instruction exchanged", "lifts the object that is named now"),
        bar(
            total["exchanged"],
            "pc_first_named",
            "… lifts the object named before",
            "high if it ignored the words",
            "bad",
        ),
        bar(total["absent"], "pc_success", "No instruction", "chance is 25 %", "plain"),
        bar(total["unseen"], "pc_success", "Unseen combinations", "pairs of colour and shape never trained", "plain"),
    ]
    text = (
        "Four objects lie on the table: two colours times two shapes, so that only the words tell which one is meant. "
        "The last two rows are contrasts, not goals: without words there is nothing to go by, and a pair of a known "
        "colour and a known shape that never lay on the table in training asks for more than was taught."
    )
    return [page.prose(text), page.intervals("Share of scenes; the thin line is the 95 % interval", rows)]


def _pictures(folder: Path, results: Results) -> list[str]:
    shown = [each for name, result in results.items() for each in films(folder / "eval" / name, result)]
    text = "Below each picture: the seven numbers that the policy sends to the robot, ten times a second."
    return [page.prose(text), page.gallery(shown)]


def _learning(run: Path, notes: dict[str, dict[str, Any]]) -> list[str]:
    log = read_log(run)
    held_out = [(row["step"], row["validation/action"]) for row in log if "validation/action" in row]
    width = max(1, len(log) // 100)  # a hundred means show the course, not the noise
    groups = [log[i : i + width] for i in range(0, len(log), width)]
    training = [(group[-1]["step"], sum(row["action"] for row in group) / len(group)) for group in groups]
    series = {"training": training, "held-out episodes": held_out}
    text = (
        f"{notes['record']['episodes']:,} demonstrations, {notes['record']['frames']:,} moments, seen "
        f"{notes['train']['samples'] / notes['record']['frames']:.1f} times each."
    )
    return [page.prose(text), page.curve("Error of the predicted actions, logarithmic", "updates", series)]


def _time(notes: dict[str, dict[str, Any]]) -> list[str]:
    recorded, trained = notes["record"], notes["train"]
    tests = [entry for name, entry in notes.items() if name not in ("record", "train")]
    seconds, episodes = sum(entry["seconds"] for entry in tests), sum(entry["episodes"] for entry in tests)
    rows = [
        ("record", duration(recorded["seconds"]), f"{recorded['frames'] / recorded['seconds']:,.0f} moments/s"),
        ("train", duration(trained["seconds"]), f"{trained['samples'] / trained['seconds']:,.0f} samples/s"),
        ("evaluate", duration(seconds), f"{episodes / seconds:,.1f} episodes/s"),
    ]
    device = pick_device()
    machine = {
        "processor" if device.type == "cpu" else "graphics card": _hardware(device),
        "number format of training": "bfloat16" if has_bfloat16(device) else "float32",
        "parameters": f"{trained['parameters'] / 1e6:.2f} million",
    }
    return [page.table("Time and speed of each phase", ("phase", "time", "speed"), rows), page.figures(machine)]


def _figures(total: Results) -> list[str]:
    header = ("evaluation", "scenes", "success", "95 % interval", "lifts what is named", "named before", "steps")
    rows = [
        (
            name,
            str(values["n_episodes"]),
            f"{values['pc_success']:.1f} %",
            "{:.1f}–{:.1f}".format(*values["pc_success_ci95"]),
            f"{values['pc_named']:.1f} %",
            f"{values['pc_first_named']:.1f} %",
            f"{values['mean_steps']:.1f}",
        )
        for name, values in total.items()
    ]
    text = "Every episode and the whole protocol are in `eval/NAME/eval.json`, NAME as below."
    return [page.prose(text), page.table("All evaluations", header, rows)]


def _commands(folder: Path, example: list[str]) -> list[tuple[str, str]]:
    newest, dataset = checkpoint.find(folder / "run"), folder / "dataset"
    further = "--env tabletop --episodes 500 --instructions exchanged --videos 8"
    return [
        ("Ask the policy about a scene", f"plait act {newest} {' '.join(example)}"),
        ("Evaluate it further, with videos", f"plait eval {newest} {further} --out {folder / 'more'}"),
        ("How far is it from the demonstrations?", f"plait eval {newest} --dataset {dataset}"),
        ("Train another fusion", f"plait train tabletop-cross-attention --dataset {dataset} --out runs/attention"),
        ("Look at the training's curves", f"tensorboard --logdir {folder / 'run' / 'tensorboard'}"),
        ("See what else there is", "plait list"),
    ]


def _hardware(device: torch.device) -> str:
    """The name of what computes, as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} × {name}"
