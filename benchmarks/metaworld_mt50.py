"""Meta-World MT50 with one small policy: record, train, evaluate, and its row beside the published ones.

    python benchmarks/metaworld_mt50.py --out runs/mt50 --hardware "one H100"

Every phase takes less than ten minutes, continues what an earlier call has begun, and can be called by itself
(``--phases train``). Choices are made with ``--scenes 1`` and 3; the reported scenes are those of 7, which no choice
has seen, and 8 (one run on one machine). Every training has scenes of its own.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from metaworld_report import (
    LIMITS,
    MISSING,
    Row,
    beside_published,
    by_control,
    by_task,
    latencies,
    not_evaluated,
    pooled,
    protocol,
    without_episodes,
)
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.config import differences, refuse_other, to_dict
from plait.diagnose.cost import measure, parameters
from plait.encoders.recall import Recall
from plait.envs.metaworld.env import TABLE
from plait.envs.metaworld.tasks import chosen
from plait.evaluate.alter import Blanked
from plait.evaluate.rollout import evaluate
from plait.files import read_json, write_whole
from plait.heads.chunk import Start
from plait.nn.device import Precision, pick_device
from plait.nn.replay import Replay
from plait.policy import Policy
from plait.processes import processors
from plait.recipes import RECIPES, Recipe
from plait.record.demonstration import DemonstrationConfig
from plait.record.recorder import record
from plait.spec import camera_modality
from plait.train.policy import train
from plait.train.tracker import read_log, usual_speed
from plait.types import Observation

CAMERA = "corner2"
SHOWN = DemonstrationConfig(pushes=1.0, slips=1 / 60, longest=250, tries=5)
Phase = Literal["record", "train", "evaluate", "bfloat16", "controls", "latency", "report"]
ALL: tuple[Phase, ...] = ("record", "train", "evaluate", "bfloat16", "controls", "latency", "report")
CHANGED: dict[Phase, dict[str, dict[str, Any]]] = {  # what is evaluated beside the policy as it is
    "bfloat16": {"computed in bfloat16": {"precision": "bfloat16"}},
    "controls": {
        "sentences exchanged between tasks": {"instructions": "exchanged"},
        "black pictures": {"alter": (Blanked(camera_modality(CAMERA)),)},
    },
}


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
    scenes: int = 7
    """Which set of scenes is evaluated."""
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
    quality: Literal["fast", "smooth"] = "smooth"
    """Of the pictures: fast, or smooth for smooth edges."""
    execute: int | None = None
    """Control steps between two predictions; as trained when left out."""
    temperature: float | None = None
    """Of the sampled actions; as trained when left out."""
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
        return {"task": list(self.tasks), "size": self.recipe.policy.image_size, "quality": self.quality, "crop": TABLE}

    @property
    def count(self) -> int:
        return len(chosen(self.tasks))

    def run(self, seed: int) -> Path:
        return self.out / f"run-seed{seed}"

    def file(self, phase: Phase, seed: int = 0) -> Path:
        """What the phase has found."""
        parts = {"record": "", "train": f"-seed{seed}", "latency": f"-seed{seed}"}
        name = phase + parts.get(phase, f"-seed{seed}-scenes{self.scenes}")
        return self.out / "phases" / f"{name}.json"

    def settings(self, phase: Phase) -> dict[str, Any]:
        """What the phase's numbers depend on, besides what its file is named for."""
        found = {"tasks": list(self.tasks), "demonstrations": self.demonstrations, "size": self.env_args["size"]}
        found |= {"quality": self.quality, "shown": to_dict(SHOWN)}
        if phase != "record":
            found |= {"policy": to_dict(self.recipe.policy), "train": to_dict(self.recipe.train)}
        if phase in ("record", "train"):
            return found
        return found | {"episodes": self.episodes, "execute": self.execute, "temperature": self.temperature}


def main(options: Options) -> None:
    """Run the phases. What cannot be done, such as a training before the recording, is told and ends the program."""
    try:
        for phase in options.phases:
            if phase == "report":
                report(options)
                continue
            for seed in options.seeds[:1] if phase == "record" else options.seeds:
                _once(options, phase, seed)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


def _once(options: Options, phase: Phase, seed: int) -> None:
    """Do a phase unless that is done; write what it found, and how long it took in all calls together."""
    path, settings = options.file(phase, seed), json.loads(json.dumps(options.settings(phase)))
    before = read_json(path) if path.exists() else {"seconds": 0.0, "done": False, "settings": settings}
    refuse_other(path, differences(before["settings"], settings))
    if before["done"]:
        return
    began, found, refused = time.perf_counter(), {}, False
    try:
        found = WORK[phase](options, seed)
    except (ValueError, OSError):
        refused = not path.exists()  # other settings may follow where nothing was begun
        raise
    finally:
        seconds = round(before["seconds"] + time.perf_counter() - began, 1)
        if not refused:
            path.parent.mkdir(parents=True, exist_ok=True)
            done = {"seconds": seconds, "done": bool(found), "settings": settings, **found}
            write_whole(path, json.dumps(done, indent=1) + "\n")
    print(f"{path.stem}: {seconds:.0f} s")


def _record(options: Options, _: int) -> dict[str, Any]:
    episodes, workers = options.demonstrations * options.count, options.workers or processors()
    made = record(
        "metaworld", options.out / "data", episodes, options.env_args, workers, how=SHOWN, images="png", cache=True
    )
    print(made)
    return {"episodes": made.episodes, "frames": made.frames, "failed": made.failed, "workers": workers}


def _train(options: Options, seed: int) -> dict[str, Any]:
    recipe, run = options.recipe, options.run(seed)
    train(recipe.policy, replace(recipe.train, seed=seed, keep=1), options.out / "data", run)
    rows = read_log(run)
    return {
        "samples": recipe.train.steps * recipe.train.batch_size,
        "parameters": parameters(checkpoint.load(run)),
        **usual_speed(run),
        **{name: value for name, value in rows[-1].items() if name.startswith("validation/")},
    }


def _evaluate(options: Options, seed: int) -> dict[str, Any]:
    """In scenes that no training has seen."""
    return {"cells": {"as trained": _cell(options, seed, "as trained")}}


def _changed(phase: Phase, options: Options, seed: int) -> dict[str, Any]:
    """The same with one thing changed."""
    return {"cells": {title: _cell(options, seed, title, **changes) for title, changes in CHANGED[phase].items()}}


def _cell(options: Options, seed: int, title: str, precision: Precision = "float32", **changes: Any) -> dict[str, Any]:
    run = options.run(seed)
    found = evaluate(
        _policy(options, seed).convert(precision),
        "metaworld",
        options.env_args,
        episodes=options.episodes * options.count,
        seed=100 * options.scenes + seed,
        execute=options.execute,
        workers=options.workers,
        checkpoint=checkpoint.fingerprint(run),
        title=title,
        **changes,
    )
    if found["partial"]:
        raise KeyboardInterrupt
    return found


def _policy(options: Options, seed: int) -> Policy:
    policy = checkpoint.load(options.run(seed)).to(pick_device("auto"))
    if options.temperature is not None:
        for start in (module for module in policy.modules() if isinstance(module, Start)):
            start.temperature = options.temperature
    return policy


def _latency(options: Options, seed: int) -> dict[str, Any]:
    """Of one prediction for one robot, its words encoded before, until it is there; float32 is what is evaluated."""
    size, found = options.recipe.policy.image_size, {}
    for precision in ("float32", "bfloat16"):
        policy = _policy(options, seed).convert(precision)
        device = policy.device
        picture, state = torch.zeros(1, size, size, 3, dtype=torch.uint8), torch.zeros(1, len(policy.spec.state))
        seen = policy.prepare(Observation({CAMERA: picture}, state, ["Reach a goal position"]))
        ways: dict[str, Callable[[Any], Any]] = {"eager": policy}
        if device.type == "cuda":
            ways |= {"CUDA graph": Replay(policy), "compiled, CUDA graph": Replay(torch.compile(policy))}
        for name, call in ways.items():
            with torch.inference_mode():
                inputs = policy.tell(seen, Recall(policy.encoder.language))  # a robot hears the same at every step
                cost = measure(policy, lambda call=call, inputs=inputs: call(inputs), device)
            found[f"{name}, {precision}"] = {"p50_ms": cost.p50_ms, "p99_ms": cost.p99_ms, "flops": cost.flops}
    return {"latency": found}


WORK: dict[Phase, Callable[[Options, int], dict[str, Any]]] = {
    "record": _record,
    "train": _train,
    "evaluate": _evaluate,
    "bfloat16": partial(_changed, "bfloat16"),
    "controls": partial(_changed, "controls"),
    "latency": _latency,
}


def report(options: Options) -> None:
    """Print the tables and write them."""
    files = [options.file("record"), *(options.file(phase, seed) for phase in ALL[1:-1] for seed in options.seeds)]
    phases = {path.stem: found for path in files if path.exists() and (found := read_json(path))["done"]}
    each = _cells(options, phases, "evaluate", "as trained")
    if not each:
        raise SystemExit(f"{options.out}: nothing is evaluated yet; run the phase evaluate")
    seeds, together = {seed: pooled([cell]) for seed, cell in each.items()}, pooled(each.values())
    cells = {title: _cells(options, phases, phase, title) for phase, titles in CHANGED.items() for title in titles}
    controls = {title: {"seeds": list(found), **pooled(found.values())} for title, found in cells.items() if found}
    training = phases.get(options.file("train", next(iter(each))).stem, {})
    parts = (
        beside_published(together, seeds, training.get("parameters")),
        not_evaluated([seed for seed in options.seeds if seed not in each]),
        by_control(controls),
        by_task(together),
        protocol(next(found for name, found in phases.items() if name.startswith("evaluate"))),
        _by_phase(options, phases),
        latencies(phases),
        LIMITS.format(missing=MISSING[options.quality], demonstrations=options.demonstrations),
    )
    text = "\n\n".join(filter(None, parts))
    print(text)
    data = {"phases": {name: without_episodes(found) for name, found in phases.items()}}
    data |= {"pooled": {"seeds": list(each), **together}, "controls": controls}
    versions = next(iter(each.values()))["protocol"]["versions"]
    publish("metaworld_mt50", "Meta-World MT50", options.hardware, text, data, options.report, versions)


def _cells(options: Options, phases: dict[str, Row], phase: Phase, title: str) -> dict[int, Row]:
    """The evaluations of this title, by the seed of the training."""
    names = {seed: options.file(phase, seed).stem for seed in options.seeds}
    return {seed: phases[name]["cells"][title] for seed, name in names.items() if name in phases}


def _by_phase(options: Options, phases: dict[str, Row]) -> str:
    wanted = ("episodes", "frames", "workers", "samples", "samples_per_s", "data_wait", "mfu")
    lines = []
    for name, found in phases.items():
        facts = [f"{key} {_short(found[key])}" for key in wanted if key in found]
        lines.append((name, f"{found['seconds']:.0f} s", ", ".join(facts)))
    for seed in options.seeds:
        whole = [options.file(phase, seed).stem for phase in ("record", "train", "evaluate")]
        if all(name in phases for name in whole):
            seconds = sum(phases[name]["seconds"] for name in whole)
            lines.append((f"record, train and evaluate seed {seed}", f"{seconds:.0f} s", "the sum of the three phases"))
            break
    return table(("phase", "time", ""), lines)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


if __name__ == "__main__":
    main(tyro.cli(Options))
