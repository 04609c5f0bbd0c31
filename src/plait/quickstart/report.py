"""What the quickstart's page has beyond the diagnosis: how the policy learned, where the time went, how to go on."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from plait import checkpoint
from plait.diagnose import page
from plait.diagnose.report import Answers
from plait.nn.device import has_bfloat16, pick_device
from plait.train.tracker import read_log

Notes = dict[str, dict[str, Any]]  # of the phases: seconds and counts


def sections(folder: Path, notes: Notes, answers: Answers, example: list[str]) -> list[str]:
    """For the page in ``folder``. ``example``: arguments of ``plait act`` for a scene that was saved."""
    return [
        page.section("How did it learn?", *_learning(folder / "run", notes)),
        page.section("Where did the time go?", *_time(notes, answers)),
        page.section("Go on", page.commands(_commands(folder, example))),
    ]


def duration(seconds: float) -> str:
    """``252.3`` -> ``4 min 12 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _learning(run: Path, notes: Notes) -> list[str]:
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


def _time(notes: Notes, answers: Answers) -> list[str]:
    recorded, trained = notes["record"], notes["train"]
    rows = [
        ("record", duration(recorded["seconds"]), f"{recorded['frames'] / recorded['seconds']:,.0f} moments/s"),
        ("train", duration(trained["seconds"]), f"{trained['samples'] / trained['seconds']:,.0f} samples/s"),
        *((answer.question, duration(answer.seconds), "") for answer in answers.values()),
    ]
    seconds = sum(entry["seconds"] for entry in notes.values()) + sum(answer.seconds for answer in answers.values())
    text = f"All of it was recorded, trained and examined on this machine in {duration(seconds)}."
    device = pick_device()
    machine = {
        "processor" if device.type == "cpu" else "graphics card": _hardware(device),
        "number format of training": "bfloat16" if has_bfloat16(device) else "float32",
        "parameters": f"{trained['parameters'] / 1e6:.2f} million",
    }
    table = page.table("Time and speed of each phase", ("phase", "time", "speed"), rows)
    return [page.prose(text), table, page.figures(machine)]


def _commands(folder: Path, example: list[str]) -> list[tuple[str, str]]:
    newest, dataset = checkpoint.find(folder / "run"), folder / "dataset"
    further = "--env tabletop --episodes 500 --instructions exchanged --videos 8"
    everything = f"plait diagnose {newest} --dataset {dataset} --out {folder / 'diagnosis'}"
    return [
        ("Ask the policy about a scene", f"plait act {newest} {' '.join(example)}"),
        ("Ask the other questions too: what it uses, what its embeddings tell, whether the data is sound", everything),
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
