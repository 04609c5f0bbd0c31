"""Variants of one policy, with several seeds each: what the scripts that ask "what does this part change?" share.

Every variant is recorded (once for equal scenes), trained, and evaluated on scenes that no training saw. A finished
training with its evaluations is one small file in ``out/cells``, and the same command does the rest.
"""

import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.config import differences, refuse_other, refuse_small, to_dict, unknown
from plait.data.cache import Images
from plait.data.lerobot import Dataset
from plait.diagnose.cost import parameters
from plait.evaluate.rollout import evaluate
from plait.evaluate.statistics import wilson
from plait.nn.device import pick_device
from plait.policy import Policy
from plait.processes import processors
from plait.recipes import Recipe
from plait.record.demonstration import CLEAN, DemonstrationConfig
from plait.record.recorder import record
from plait.train.policy import train

READING = (
    "Success in percent over the scenes of all seeds together, with its 95 % Wilson interval, then each seed's. "
    "Training is the longest one's time, with as many trainings side by side as the JSON says (`jobs`)."
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """What is trained, on how many episodes of which scenes of an environment, and from which checkpoint, if any."""

    recipe: Recipe
    demonstrations: int
    scenes: dict[str, Any] = field(default_factory=dict)
    env: str = "tabletop"
    shown: DemonstrationConfig = CLEAN
    init: Path | None = None


def succeeded(row: Row) -> bool:
    return bool(row["success"])


def every(row: Row) -> bool:
    return True


@dataclass(frozen=True)
class Trial:
    """An evaluation, and what counts in it. Trials that differ only in that share the episodes.

    Attributes:
        scenes: what differs from those of the training.
        instructions: what the policy is told.
        hit: what counts in an episode.
        among: the episodes that are looked at.
        changes: further arguments of ``evaluate``, such as ``execute``.
        play: what plays the episodes where ``evaluate`` does not, told the policy, the variant, its dataset, the number
            of episodes and that of workers; its result has ``per_episode`` and ``protocol`` too.
    """

    scenes: dict[str, Any] = field(default_factory=dict)
    instructions: str = "normal"
    hit: Callable[[Row], bool] = succeeded
    among: Callable[[Row], bool] = every
    changes: dict[str, Any] = field(default_factory=dict)
    play: "Callable[[Policy, Variant, Path, int, int], Row] | None" = None


@dataclass(frozen=True)
class Study:
    """A question.

    Attributes:
        name: of the results file.
        title, about, conclusion: of the results file, around its table.
    """

    name: str
    title: str
    about: str
    variants: dict[str, Variant]
    trials: dict[str, Trial]
    conclusion: str = ""


@dataclass(frozen=True)
class Options:
    """Where and how much."""

    out: Path
    """Folder of datasets, runs and cells."""
    hardware: str
    """As it shall stand in the results file and its name."""
    seeds: int = 3
    """Trainings of each variant."""
    train: bool = True
    """--no-train only reports what is there."""
    only: tuple[str, ...] = ()
    """Some of the variants; all when left out."""
    episodes: int = 100
    """Scenes of each evaluation; the same for all."""
    jobs: int = 1
    """Trainings at the same time."""
    workers: int = 2
    """Processes that simulate in each evaluation."""
    recorders: int | None = None
    """Processes that record; one per processor when left out."""
    report: Path = RESULTS
    """Folder of the results file."""


def run(study: Study, options: Options) -> None:
    """Do what is not done yet; then print the table and write it."""
    refuse_small(seeds=(options.seeds, 1), episodes=(options.episodes, 1), jobs=(options.jobs, 1))
    for name in set(options.only) - study.variants.keys():
        raise unknown("variant", name, study.variants)
    variants = {name: study.variants[name] for name in options.only or study.variants}
    if options.train:
        _run(study, variants, options)
    found = {name: [_file(options, name, seed) for seed in range(options.seeds)] for name in variants}
    cells = {name: [json.loads(path.read_text()) for path in paths if path.exists()] for name, paths in found.items()}
    cells = {name: seeds for name, seeds in cells.items() if seeds}
    if not cells:
        raise ValueError(f"{options.out}: no training has finished there; leave --no-train out")
    rows = list(_rows(study, cells))
    text = table(("", *study.trials, "parameters", "training"), rows)
    print(text)
    publish(
        study.name,
        study.title,
        options.hardware,
        "\n\n".join(filter(None, (study.about, text, READING, study.conclusion))),
        {"jobs": options.jobs, "workers": options.workers, "cells": cells},
        options.report,
        _versions(cells),
    )


def _run(study: Study, variants: Mapping[str, Variant], options: Options) -> None:
    datasets = _record(variants, options)
    keys = [(name, seed) for seed in range(options.seeds) for name in variants]
    keys = [key for key in keys if not _finished(study, options, key)]
    work = partial(_cell, study, options, datasets)
    if options.jobs == 1:
        for key in keys:
            work(key)
    elif keys:
        context = multiprocessing.get_context("spawn")
        numbers = context.SimpleQueue()
        for number in range(options.jobs):
            numbers.put(number)
        with context.Pool(options.jobs, _choose_gpu, (numbers,)) as pool:
            for key in pool.imap_unordered(work, keys, chunksize=1):
                print("finished", *key, file=sys.stderr, flush=True)


def _choose_gpu(numbers: Any) -> None:
    """In a new process: "auto" is the next of the GPUs there."""
    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(numbers.get() % gpus)


def _record(variants: Mapping[str, Variant], options: Options) -> dict[str, Path]:
    """Of each variant its dataset, with the images decoded: equal scenes share one, of the largest number."""
    by_scenes: dict[str, list[str]] = {}
    for name, variant in variants.items():
        by_scenes.setdefault(
            json.dumps([variant.env, variant.scenes, to_dict(variant.shown)], sort_keys=True), []
        ).append(name)
    found: dict[str, Path] = {}
    for scenes, names in by_scenes.items():
        first = variants[names[0]]
        folder = options.out / f"dataset-{hashlib.sha256(scenes.encode()).hexdigest()[:8]}"
        most = max(variants[name].demonstrations for name in names)
        workers = options.recorders or processors()
        record(first.env, folder, most, first.scenes, workers, how=first.shown, images="png", cache=True)
        data = Dataset.open(folder)
        for size in {variants[name].recipe.policy.image_size for name in names}:
            Images(data, list(data.spec.cameras), (size, size))
        found |= dict.fromkeys(names, folder)
    return found


def _cell(study: Study, options: Options, datasets: dict[str, Path], key: tuple[str, int]) -> tuple[str, int]:
    """Train one variant with one seed, evaluate it, and write what was found."""
    name, seed = key
    variant, began = study.variants[name], time.perf_counter()
    run = options.out / "runs" / _file(options, name, seed).stem
    data = Dataset.open(datasets[name]).first(variant.demonstrations)
    train(variant.recipe.policy, replace(variant.recipe.train, seed=seed, keep=1), data, run, variant.init)
    minutes = (time.perf_counter() - began) / 60
    policy = checkpoint.load(run).to(pick_device("auto"))
    results = _evaluations(study, variant, policy, datasets[name], options)
    found = {
        **_settings(variant, seed, options),
        "parameters": parameters(policy),
        "minutes": round(minutes, 2),
        "trials": {title: _count(trial, results[title]["per_episode"]) for title, trial in study.trials.items()},
        "protocols": {title: results[title]["protocol"] for title in study.trials},
    }
    _file(options, name, seed).parent.mkdir(parents=True, exist_ok=True)
    _file(options, name, seed).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return key


def _settings(variant: Variant, seed: int, options: Options) -> dict[str, Any]:
    """What a cell's numbers depend on."""
    recipe = variant.recipe
    made = {"variant": to_dict(recipe.policy), "train": to_dict(replace(recipe.train, seed=seed))}
    made |= {"init": str(variant.init)} if variant.init else {}
    return made | {"demonstrations": variant.demonstrations, "episodes": options.episodes}


def _finished(study: Study, options: Options, key: tuple[str, int]) -> bool:
    """Whether that is done already.

    Raises:
        ValueError: it was done with other settings.
    """
    name, seed = key
    path, settings = _file(options, name, seed), _settings(study.variants[name], seed, options)
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    refuse_other(path, differences({part: found[part] for part in settings}, json.loads(json.dumps(settings))))
    return True


def _evaluations(study: Study, variant: Variant, policy: Policy, dataset: Path, options: Options) -> dict[str, Row]:
    """Of each trial what ``evaluate`` says, or what plays instead."""
    done: dict[str, Row] = {}
    for title, trial in study.trials.items():
        if (key := _episodes_of(trial)) not in done:
            if trial.play is not None:
                done[key] = trial.play(policy, variant, dataset, options.episodes, options.workers)
                continue
            scenes, given = variant.scenes | trial.scenes, {"instructions": trial.instructions, **trial.changes}
            given |= {"episodes": options.episodes, "workers": options.workers, "title": title}
            done[key] = evaluate(policy, variant.env, scenes, **given)
            if done[key]["partial"]:
                raise KeyboardInterrupt
    return {title: done[_episodes_of(trial)] for title, trial in study.trials.items()}


def _episodes_of(trial: Trial) -> str:
    played = trial.play.__qualname__ if trial.play else ""
    return json.dumps([trial.scenes, trial.instructions, trial.changes, played], sort_keys=True)


def _count(trial: Trial, rows: list[Row]) -> dict[str, int]:
    rows = list(filter(trial.among, rows))
    return {"hits": sum(map(trial.hit, rows)), "n": len(rows)}


def _file(options: Options, name: str, seed: int) -> Path:
    return options.out / "cells" / f"{name.replace(',', '').replace(' ', '-')}-seed{seed}.json"


def _versions(cells: Mapping[str, list[Row]]) -> dict[str, str] | None:
    """Those that the last evaluation ran with."""
    protocols = [protocol for seeds in cells.values() for cell in seeds for protocol in cell["protocols"].values()]
    return protocols[-1]["versions"] if protocols else None


def _rows(study: Study, cells: Mapping[str, list[Row]]) -> Iterator[tuple[str, ...]]:
    """One for each variant: of each trial the share over all seeds, its interval, and each seed's share."""
    for name, seeds in cells.items():
        shares = [_share([cell["trials"][title] for cell in seeds]) for title in study.trials]
        minutes = max(cell["minutes"] for cell in seeds)
        yield name, *shares, f"{seeds[0]['parameters'] / 1e6:.2f} M", f"{minutes:.1f} min"


def _share(counts: list[dict[str, int]]) -> str:
    hits, n = sum(count["hits"] for count in counts), sum(count["n"] for count in counts)
    if not n:
        return "–"
    low, high = wilson(hits, n)
    text = f"{100 * hits / n:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
    each = [100 * count["hits"] / count["n"] for count in counts]
    return text if len(each) == 1 else f"{text}, seeds {' '.join(f'{share:.0f}' for share in each)}"
