"""Meta-World MT50 with one small policy: record, train, evaluate, and its row beside the published ones.

    python benchmarks/metaworld_mt50.py --out runs/mt50 --hardware "one H100"

Every phase takes less than ten minutes, continues what an earlier call has begun, and can be called by itself
(``--phases train``). Choices are made with ``--eval-seed 1``; the reported scenes are those of seed 2, which no choice
has seen.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import torch
import tyro
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.diagnose.cost import measure
from plait.envs.metaworld.tasks import TIERS, chosen
from plait.evaluate.alter import Blanked
from plait.evaluate.rollout import evaluate
from plait.evaluate.statistics import share
from plait.files import read_json, write_whole
from plait.nn.device import pick_autocast, pick_device
from plait.nn.replay import Replay
from plait.processes import processors
from plait.recipes import RECIPES, Recipe
from plait.record.recorder import record
from plait.spec import camera_modality
from plait.train.policy import train
from plait.train.tracker import read_log
from plait.types import Observation

CAMERA = "corner2"
PUBLISHED = (  # the authors' own numbers: model, parameters, easy, medium, hard, very hard, mean of tiers, source
    ("FabriVLA", "0.89 B", 95.0, 88.2, 86.7, 90.0, 90.0, "arXiv 2607.08575"),
    ("LA4VLA-1B", "1 B", 88.9, 94.5, 66.7, 100.0, 87.5, "arXiv 2606.27295"),
    ("Evo-1", "0.77 B", 89.2, 76.8, 77.2, 79.2, 80.6, "arXiv 2511.04555"),
    ("ProgVLA", "0.1 B", None, None, None, None, 78.5, "arXiv 2605.28231"),
    ("SmolVLA", "2.25 B", 87.1, 51.8, 70.0, 64.0, 68.2, "arXiv 2506.01844"),
    ("SmolVLA", "0.45 B", 82.5, 41.8, 45.0, 60.0, 57.3, "arXiv 2506.01844"),
    ("pi0", "3.5 B", 80.4, 40.9, 36.7, 44.0, 50.5, "arXiv 2506.01844"),
    ("TinyVLA", "", 77.6, 21.5, 11.4, 15.8, 31.6, "arXiv 2506.01844"),
    ("Diffusion Policy", "", 23.1, 10.7, 1.9, 6.1, 10.5, "arXiv 2506.01844"),
)
CONTROLS: dict[str, dict[str, Any]] = {
    "sentences exchanged between tasks": {"instructions": "exchanged"},
    "black pictures": {"alter": (Blanked(camera_modality(CAMERA)),)},
}
LIMITS = (
    "The demonstrations are recorded anew with the same scripted experts; the published models were trained on other "
    "recordings of them. Push and push-back share one sentence, so that only the picture tells them apart."
)
Phase = Literal["record", "train", "evaluate", "controls", "latency", "report"]
ALL: tuple[Phase, ...] = ("record", "train", "evaluate", "controls", "latency", "report")


@dataclass(frozen=True)
class Options:
    """Where, and how much."""

    out: Path
    """Folder of the dataset, the runs and the evaluations."""
    hardware: str
    """As it shall stand in the results file and its name."""
    phases: tuple[Phase, ...] = ALL
    """What to do now."""
    seeds: tuple[int, ...] = (0,)
    """Of the trainings."""
    eval_seed: int = 2
    """Of the scenes."""
    tasks: tuple[str, ...] = ("mt50",)
    """Some tasks for a trial."""
    demonstrations: int = 50
    """For each task."""
    episodes: int = 10
    """Of each evaluation, for each task."""
    steps: int | None = None
    """Of a training; the recipe's when left out."""
    batch_size: int | None = None
    """Likewise."""
    image_size: int | None = None
    """Likewise."""
    workers: int | None = None
    """Processes that simulate; one for each processor when left out."""
    report: Path = RESULTS
    """Folder of the results file."""

    @property
    def recipe(self) -> Recipe:
        recipe = RECIPES["metaworld-mt50"]()
        given = {"steps": self.steps, "batch_size": self.batch_size}
        train = replace(recipe.train, **{key: number for key, number in given.items() if number is not None})
        return Recipe(replace(recipe.policy, image_size=self.image_size or recipe.policy.image_size), train)

    @property
    def env_args(self) -> dict[str, Any]:
        return {"task": list(self.tasks), "size": self.recipe.policy.image_size}

    @property
    def count(self) -> int:
        return len(chosen(self.tasks))

    def run(self, seed: int) -> Path:
        return self.out / f"run-seed{seed}"


def main(options: Options) -> None:
    """Run the phases."""
    for phase in options.phases:
        if phase == "report":
            report(options)
        elif phase == "record":
            _once(options, "record", _record)
        else:
            for seed in options.seeds:
                _once(options, phase, {"train": _train, "latency": _latency}.get(phase, _evaluate), seed)


def _once(options: Options, phase: str, work: Any, *seed: int) -> None:
    """Do a phase unless that is done, and write what it found and how long it took."""
    path = options.out / "phases" / f"{'-'.join([phase, *(f'seed{each}' for each in seed)])}.json"
    if path.exists():
        return
    began = time.perf_counter()
    found = work(options, *seed) if phase not in ("evaluate", "controls") else work(options, phase, *seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"seconds": round(time.perf_counter() - began, 1), **found}, indent=1) + "\n")
    print(f"{path.stem}: {time.perf_counter() - began:.0f} s")


def _record(options: Options) -> dict[str, Any]:
    episodes, workers = options.demonstrations * options.count, options.workers or processors()
    made = record("metaworld", options.out / "data", episodes, options.env_args, workers, images="png", cache=True)
    print(made)
    return {"episodes": made.episodes, "frames": made.frames, "failed": made.failed, "workers": workers}


def _train(options: Options, seed: int) -> dict[str, Any]:
    recipe, run = options.recipe, options.run(seed)
    train(recipe.policy, replace(recipe.train, seed=seed, keep=1), options.out / "data", run)
    rows = read_log(run)
    usual = {name: [row[name] for row in rows if name in row] for name in ("samples_per_s", "data_wait", "mfu")}
    return {
        "samples": recipe.train.steps * recipe.train.batch_size,
        "parameters": sum(weight.numel() for weight in checkpoint.load(run).parameters()),
        **{name: median(values) for name, values in usual.items() if values},
        **{name: value for name, value in rows[-1].items() if name.startswith("validation/")},
    }


def _evaluate(options: Options, phase: str, seed: int) -> dict[str, Any]:
    """In scenes that no training has seen: as trained, or with one thing made useless."""
    policy = checkpoint.load(options.run(seed)).to(pick_device("auto"))
    cells = {"as trained": {}} if phase == "evaluate" else CONTROLS
    return {
        "cells": {
            title: evaluate(
                policy,
                "metaworld",
                options.env_args,
                episodes=options.episodes * options.count,
                seed=options.eval_seed,
                workers=options.workers,
                checkpoint=checkpoint.fingerprint(options.run(seed)),
                title=title,
                **changes,
            )
            for title, changes in cells.items()
        }
    }


def _latency(options: Options, seed: int) -> dict[str, Any]:
    """Of one prediction for one robot, until it is there."""
    device = pick_device("auto")
    policy = checkpoint.load(options.run(seed)).to(device).eval()
    size = options.recipe.policy.image_size
    picture, state = torch.zeros(1, size, size, 3, dtype=torch.uint8), torch.zeros(1, len(policy.spec.state))
    inputs = policy.prepare(Observation({CAMERA: picture}, state, ["Reach a goal position"])).to(device)
    ways = {"eager": policy}
    if device.type == "cuda":
        ways |= {"CUDA graph": Replay(policy), "compiled, CUDA graph": Replay(torch.compile(policy))}
    found = {}
    for name, call in ways.items():
        with torch.inference_mode(), pick_autocast("auto", device):
            cost = measure(policy, lambda call=call: call(inputs), device)
        found[name] = {"p50_ms": cost.p50_ms, "p99_ms": cost.p99_ms, "flops": cost.flops}
    return {"latency": found}


def report(options: Options) -> None:
    """Print the tables and write them."""
    phases = {path.stem: read_json(path) for path in sorted((options.out / "phases").glob("*.json"))}
    seeds = [seed for seed in options.seeds if f"evaluate-seed{seed}" in phases]
    rows = [row for seed in seeds for row in _episodes(phases[f"evaluate-seed{seed}"], "as trained")]
    each = [_episodes(phases[f"evaluate-seed{seed}"], "as trained") for seed in seeds]
    parts = [
        _beside_published(rows, phases[f"train-seed{seeds[0]}"]["parameters"], each),
        _by_control(phases, seeds),
        _by_task(rows),
        _by_phase(phases),
        LIMITS,
    ]
    text = "\n\n".join(parts)
    print(text)
    protocol = phases[f"evaluate-seed{seeds[0]}"]["cells"]["as trained"]["protocol"]
    data = {"phases": {name: _without_episodes(found) for name, found in phases.items()}, "protocol": protocol}
    publish("metaworld_mt50", "Meta-World MT50", options.hardware, text, data, options.report, protocol["versions"])


Row = dict[str, Any]


def _episodes(found: Row, title: str) -> list[Row]:
    return found["cells"][title]["per_episode"]


def tiers(rows: list[Row]) -> dict[str, Row]:
    """Of each tier that is there its success, with the interval."""
    present = [tier for tier in TIERS if any(row["tier"] == tier for row in rows)]
    return {tier: share(row["success"] for row in rows if row["tier"] == tier) for tier in present}


def tier_mean(rows: list[Row]) -> float:
    return mean(tier["pc_success"] for tier in tiers(rows).values())


def _beside_published(rows: list[Row], parameters: int, each: list[list[Row]]) -> str:
    found = tiers(rows)
    own = [f"{found[tier]['pc_success']:.1f}" if tier in found else "–" for tier in TIERS]
    average = f"**{tier_mean(rows):.1f}** (seeds {' '.join(f'{tier_mean(one):.1f}' for one in each)})"
    lines = [("**plait**", f"{parameters / 1e6:.1f} M", *own, average, "this file")]
    lines += [
        (name, size, *("–" if value is None else f"{value:.1f}" for value in values), source)
        for name, size, *values, source in PUBLISHED
    ]
    total = share(row["success"] for row in rows)
    low, high = total["pc_success_ci95"]
    note = f"By episode: {total['pc_success']:.1f} % [{low:.1f}, {high:.1f}] of {len(rows)}. Published numbers are the "
    header = ("model", "parameters", "easy", "medium", "hard", "very hard", "mean of tiers", "source")
    return f"{table(header, lines)}\n\n{note}authors' own."


def _by_control(phases: dict[str, Row], seeds: list[int]) -> str:
    lines = []
    for title in CONTROLS:
        controls = [phases[f"controls-seed{seed}"] for seed in seeds if f"controls-seed{seed}" in phases]
        rows = [row for found in controls for row in _episodes(found, title)]
        if rows:
            lines.append((title, f"{tier_mean(rows):.1f}", f"{share(r['success'] for r in rows)['pc_success']:.1f}"))
    return table(("what the policy is given", "mean of tiers", "by episode"), lines)


def _by_task(rows: list[Row]) -> str:
    lines = []
    for task in dict.fromkeys(row["task_name"] for row in rows):
        mine = [row for row in rows if row["task_name"] == task]
        found = share(row["success"] for row in mine)
        low, high = found["pc_success_ci95"]
        lines.append((found["pc_success"], task, mine[0]["tier"], f"{found['pc_success']:.0f} [{low:.0f}, {high:.0f}]"))
    return table(("task", "tier", "success"), [line[1:] for line in sorted(lines)])


def _by_phase(phases: dict[str, Row]) -> str:
    wanted = ("episodes", "frames", "workers", "samples", "samples_per_s", "data_wait", "mfu")
    lines = []
    order = lambda item: (ALL.index(item[0].partition("-")[0]), item[0])  # noqa: E731
    for name, found in sorted(phases.items(), key=order):
        facts = [f"{key} {found[key]:,.4g}" for key in wanted if key in found]
        facts += [f"{way} {ms['p50_ms']:.3f} / {ms['p99_ms']:.3f} ms" for way, ms in found.get("latency", {}).items()]
        lines.append((name, f"{found['seconds']:.0f} s", ", ".join(facts)))
    return table(("phase", "time", ""), lines)


def _without_episodes(found: Row) -> Row:
    """The numbers of a phase; of each episode only the task and the outcome."""
    if "cells" not in found:
        return found
    return found | {
        "cells": {
            title: {**cell["aggregated"], "per_task": cell["per_task"], "per_tier": cell["per_tier"]}
            for title, cell in found["cells"].items()
        }
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
