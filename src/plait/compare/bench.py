"""Where a cell is trained and evaluated: the folder with the one dataset, and what is known of the environment.

DIR/dataset/              the demonstrations, recorded once; fewer are its first ones
DIR/runs/<cell>-rate<r>/  the training run of a cell, with its checkpoint
DIR/cells/<cell>.json     what a finished cell has found; it is not done again
"""

import inspect
import json
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plait import checkpoint, envs
from plait.compare.cell import Cell, Setup
from plait.compare.size import Sized, equalised
from plait.compare.variants import mispaired, without_cameras, without_words
from plait.config import differences, from_dict, members, refuse_other
from plait.data.lerobot import Dataset
from plait.data.loader import held_out
from plait.diagnose.cost import Cost, measure
from plait.encoders.tokenizer import Tokenizer
from plait.evaluate.pool import Workers
from plait.evaluate.protocol import known_instructions, refuse_deaf
from plait.evaluate.rollout import evaluate
from plait.evaluate.statistics import manipulated
from plait.evaluate.worker import Scenes
from plait.files import read_json, write_whole
from plait.fusion import Fusion
from plait.nn.device import pick_device
from plait.recipes import RECIPES, Recipe
from plait.spec import Spec
from plait.train.policy import train
from plait.train.tracker import read_log, usual_speed
from plait.types import Observation

MISPAIRING_SEED = 0  # the same episodes are mispaired for every fusion and seed
FOUND = {"cell", "settings", "width", "parameters", "trials", "error"}  # what a finished cell has at least


class Bench:
    """One comparison's folder.

    Args:
        workers: processes that simulate in an evaluation; one per processor when None.
    """

    def __init__(self, folder: Path, setup: Setup, device: str = "auto", workers: int | None = None) -> None:
        self.folder, self.setup, self.device, self.workers = folder, setup, device, workers
        self.recipe = _recipe(setup)
        self.sized = cache(self._sized)  # by fusion

    @cached_property
    def data(self) -> Dataset:
        return Dataset.open(self.folder / "dataset")

    def finished(self, cell: Cell) -> dict[str, Any] | None:
        """What the cell has found, if it is done.

        Raises:
            ValueError: it was done with other settings.
        """
        path = self._path(cell)
        if not path.exists():
            return None
        found = read_json(path)
        refuse_other(path, differences(found["settings"], cell.settings(self.setup)))
        return found

    def known(self) -> list[Cell]:
        """All finished cells of the folder, those of earlier calls and of searches too."""
        return [_cell(path) for path in sorted((self.folder / "cells").glob("*.json"))]

    def rehearse(self, cells: Sequence[Cell]) -> None:
        """Refuse, before anything is recorded, what a training or an evaluation would refuse when its turn comes.

        Raises:
            ValueError: a fusion cannot be built for the environment or has no width, pretrained weights are not there,
                or the environment or the recipe's fusion lacks what a contrast needs.
        """
        for cell in {cell.contrast: cell for cell in cells}.values():
            trials = self._trials(cell).values()
            try:
                specs = [self._embodiment(instructions, env_args) for instructions, env_args in trials]
                self._build(specs[0], {each.fusion for each in cells if each.contrast == cell.contrast})
            except ValueError as error:
                if not cell.contrast:
                    raise
                told = str(error).removesuffix(".")
                raise ValueError(f"{cell}: {told}; or leave it out with --contrasts") from error

    def check(self, cells: Iterable[Cell]) -> None:
        """Refuse, once the demonstrations are there, what they do not suffice for.

        Raises:
            ValueError: a batch has more frames than the demonstrations, or instructions are to be mispaired where all
                are the same.
        """
        batch = self.setup.batch_size or self.recipe.train.batch_size
        for cell in {(cell.demonstrations, cell.mispaired): cell for cell in cells}.values():
            data = self._data(cell)
            lengths = np.array([row.length for row in data.episodes])
            frames = int(np.delete(lengths, held_out(len(lengths), self.recipe.train.val_fraction)).sum())
            if batch > frames:
                rule = f"{cell.demonstrations} demonstrations have {frames} frames that are trained on"
                raise ValueError(f"--batch-size {batch}: {rule}; say --batch-size {frames} or less, or more --demos.")

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and evaluate the cell, go on where it was interrupted, and write what it has found.

        A cell of a search for the learning rate is trained only. A loss that ceases to be finite is a finding too,
        under ``"error"``.
        """
        sized = self.sized(cell.fusion)
        found: dict[str, Any] = {"cell": asdict(cell), "settings": cell.settings(self.setup), "width": sized.width}
        found |= {"parameters": sized.parameters, "off": round(sized.off, 4), "trials": {}, "error": None}
        try:
            run = self.train(cell)
            config = self._recipe(cell).train  # by the log's speed, which is that of all calls that trained it
            found["train_s"] = round(config.steps * config.batch_size / usual_speed(run)["samples_per_s"], 1)
            found["validation"] = {
                name: value for name, value in read_log(run)[-1].items() if name.startswith("validation/")
            }
            found |= self._evaluate(cell, run) if cell.rate is None else {}
        except FloatingPointError as error:
            found["error"] = str(error)
        write_whole(self._path(cell), json.dumps(found, indent=1) + "\n")
        return found

    def train(self, cell: Cell) -> Path:
        """Train the cell, unless that is done; returns the run's folder."""
        recipe, cell = self._recipe(cell), cell.at_rate(self.setup)  # a search has trained one of the cells already
        return train(recipe.policy, recipe.train, self._data(cell), self.folder / "runs" / cell.name)

    def cost(self, fusion: str) -> Cost:
        """Of one prediction for one robot by the whole policy."""
        device = pick_device(self.device)
        policy = self.sized(fusion).policy.build(self.data.spec, self._tokenizer, self.data.statistics())
        images = {camera: self.data.images(camera, [0]) for camera in self.data.spec.cameras}
        state = None if self.data.state is None else self.data.state[:1]
        inputs = policy.to(device).eval().prepare(Observation(images, state, [self.data.tasks[0]])).to(device)
        return measure(policy, lambda: policy.predict(inputs), device)

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.json"

    def _embodiment(self, instructions: str, env_args: dict[str, Any]) -> Spec | None:
        """The environment's in a trial, which must be one that it can make; None for one that cannot be recorded."""
        scenes = Scenes(self.setup.env, (), self.setup.env_args | env_args, instructions)
        with closing(scenes.make()) as env:
            refuse_deaf(env, scenes)
            return getattr(env.unwrapped, "embodiment", None)

    def _build(self, spec: Spec | None, fusions: Iterable[str]) -> None:
        if spec is None:
            return  # the recording says what the environment lacks
        tokenizer = Tokenizer.build([])  # nothing is said yet; how many words there are changes no answer
        self.recipe.policy.build(spec, tokenizer)  # with its pretrained weights
        for fusion in sorted(fusions):
            equalised(self.recipe.policy, members(Fusion, "fusion")[fusion], spec, tokenizer)

    def _sized(self, fusion: str) -> Sized:
        return equalised(self.recipe.policy, members(Fusion, "fusion")[fusion], self.data.spec, self._tokenizer)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.build(self.data.tasks)

    def _recipe(self, cell: Cell) -> Recipe:
        given = {"steps": self.setup.steps, "batch_size": self.setup.batch_size}
        numbers = {name: value for name, value in given.items() if value is not None}
        numbers |= {"learning_rate": cell.at_rate(self.setup).rate, "seed": cell.seed}
        config = replace(self.recipe.train, **numbers, device=self.device, keep=1)
        return Recipe(self.sized(cell.fusion).policy, config)

    def _data(self, cell: Cell) -> Dataset:
        data = self.data.first(cell.demonstrations)
        if cell.mispaired:
            data = mispaired(data, cell.mispaired / 100, MISPAIRING_SEED)
        variants = {"vision_only": without_words, "words_only": without_cameras}
        return variants[cell.contrast](data) if cell.contrast else data

    def _evaluate(self, cell: Cell, run: Path) -> dict[str, Any]:
        policy, trials, protocol = checkpoint.load(run).to(pick_device(self.device)), {}, {}
        began, tells = time.perf_counter(), False
        with Workers(self.workers) as workers:
            for name, (instructions, env_args) in self._trials(cell).items():
                if name == "following" and not tells:
                    continue
                result = evaluate(
                    policy,
                    self.setup.env,
                    self.setup.env_args | env_args,
                    episodes=self.setup.episodes,
                    instructions=instructions,
                    workers=workers,
                    checkpoint=checkpoint.fingerprint(run),
                    title=name,
                )
                if result["partial"]:
                    raise KeyboardInterrupt
                rows = result["per_episode"]
                trials[name] = _counts(name, rows)
                tells = tells or any(row.get("target") for row in rows)  # what is manipulated, and what not
                protocol = protocol or result["protocol"]
        return {"trials": trials, "evaluate_s": round(time.perf_counter() - began, 1), "protocol": protocol}

    def _trials(self, cell: Cell) -> dict[str, tuple[str, dict[str, Any]]]:
        """Name -> what the policy is told, and what is asked of the environment besides."""
        told = "absent" if cell.contrast == "vision_only" else "normal"
        blind: dict[str, Any] = {"cameras": []} if cell.contrast == "words_only" else {}
        trials, (arguments, instructions) = {"seen": (told, blind)}, self._told
        if "combinations" in arguments:
            trials["unseen"] = (told, {**blind, "combinations": "unseen"})
        if told == "normal" and "exchanged" in instructions:
            trials["following"] = ("exchanged", blind)
        return trials

    @cached_property
    def _told(self) -> tuple[Collection[str], Collection[str]]:
        """What the environment can be told: its arguments, and kinds of instructions."""
        with closing(envs.make(self.setup.env, **self.setup.env_args)) as env:
            return inspect.signature(type(env.unwrapped)).parameters, known_instructions(env)


def _cell(path: Path) -> Cell:
    found = read_json(path)
    try:
        if not isinstance(found, dict) or not found.keys() >= FOUND:
            raise ValueError("a part is missing")
        return from_dict(Cell, found["cell"])
    except ValueError as error:
        rule = f"no finished cell of a comparison ({error}); delete it, and the same command does it again"
        raise ValueError(f"{path}: {rule}") from error


def _recipe(setup: Setup) -> Recipe:
    recipe = RECIPES[setup.recipe]()
    return recipe if setup.keyframe else replace(recipe, policy=replace(recipe.policy, keyframe=None))


def _counts(trial: str, rows: list[dict[str, Any]]) -> dict[str, int]:
    """Hits of n: successes; for ``following``, episodes in which the object that is named now was manipulated."""
    if trial == "following":
        rows = [row for row in rows if row.get("target")]
        return {"hits": sum(row["target"] in manipulated(row) for row in rows), "n": len(rows)}
    return {"hits": sum(bool(row["success"]) for row in rows), "n": len(rows)}


def as_message(setup: Setup, folder: Path, device: str, workers: int) -> bytes:
    """What another process needs to open the same bench."""
    told = {"setup": asdict(setup), "folder": str(folder), "device": device, "workers": workers}
    return json.dumps(told).encode()
