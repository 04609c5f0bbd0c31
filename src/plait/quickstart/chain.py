"""``plait quickstart``: record, train and evaluate the built-in task on this machine, and leave one page about it.

quickstart/dataset/          demonstrations, a LeRobotDataset
quickstart/run/              the training run, with its checkpoints
quickstart/eval/<name>/      eval.json and moving pictures of each evaluation
quickstart/example/          pictures of one scene, to ask the policy about
quickstart/report.html       the page
quickstart/quickstart.json   which phases are done, with what settings, and how long they took
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

import plait
from plait import checkpoint, envs
from plait.config import differences, refuse_other, refuse_small
from plait.evaluate.protocol import evaluation_seed
from plait.evaluate.rollout import evaluate
from plait.files import locked, read_json, write_whole
from plait.nn.device import pick_device
from plait.processes import processors
from plait.quickstart.report import duration, write_page
from plait.recipes import RECIPES, Recipe
from plait.record.recorder import record
from plait.train.policy import train

ENV, ENV_ARGS = "tabletop", {"vocabulary": "small"}  # 4 colours and 3 shapes
RECIPE, NOTES = "tabletop-pick", "quickstart.json"
FEWEST = 10  # demonstrations; fewer do not fill one batch


@dataclass(frozen=True)
class Trial:
    """One of the evaluations: how it is called, what is asked of the environment, how many episodes are filmed."""

    title: str
    instructions: str = "normal"
    env_args: dict[str, Any] = field(default_factory=dict)
    contrast: bool = False  # needs fewer scenes
    videos: int = 0


TRIALS = {
    "normal": Trial("New scenes", videos=4),
    "exchanged": Trial("Instruction exchanged", "exchanged", videos=2),
    "absent": Trial("No instruction", "absent", contrast=True),
    "unseen": Trial("Unseen combinations", env_args={"combinations": "unseen"}, contrast=True),
}


def quickstart(
    out: Path | str = "quickstart",
    *,
    episodes: int = 1500,
    steps: int | None = None,
    scenes: int = 200,
    contrast: int = 100,
    seed: int = 0,
    workers: int | None = None,
    fresh: bool = False,
) -> Path:
    """Do it all; a second call does only what is not done yet, and what other numbers of scenes demand anew.

    Args:
        out: folder for everything.
        episodes: demonstrations to record.
        steps: of training; the recipe's number when omitted.
        scenes: of the evaluations with an instruction.
        contrast: scenes of the two evaluations for contrast (no instruction; unseen combinations).
        seed: of the demonstrations, the training and the evaluations.
        workers: processes; the number of processors by default.
        fresh: delete what an earlier call left in ``out``, and start over.

    Returns:
        the page, ``out/report.html``.

    Raises:
        ValueError: a number that is too small, or ``out`` holds something else, or what was made with other settings,
            or another process is at work there. Nothing was changed.
        KeyboardInterrupt: interrupted; what is finished stays, and the same call continues.
    """
    workers = processors() if workers is None else workers
    refuse_small(episodes=(episodes, FEWEST), scenes=(scenes, 1), contrast=(contrast, 1))
    refuse_small(seed=(seed, 0), workers=(workers, 1))
    folder, recipe = Path(out), _recipe(steps, seed)
    made = {"episodes": episodes, "seed": seed, "plait": plait.__version__}
    trained = {**made, "steps": recipe.train.steps, "batch_size": recipe.train.batch_size}
    with locked(folder):
        notes = _open(folder, {"record": made, "train": trained}, fresh)
        notes.phase("record", made, lambda: _record(folder, episodes, seed, workers))
        notes.phase("train", trained, lambda: _train(folder, recipe))
        _evaluate_all(folder, notes, seed, scenes, contrast, workers)
        results = {name: read_json(folder / "eval" / name / "eval.json") for name in TRIALS}
        page = write_page(folder, notes.entries, results, _example(folder, seed))
    _tell(results, notes, page)
    return page


class Notes:
    """What is done, kept in a file after every phase."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}

    def phase(self, name: str, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> None:
        """Do ``work`` unless it is done with these settings; note its results and its time over all attempts."""
        before = self.entries.get(name, {})
        same = before.get("settings") == settings
        if same and before["done"]:
            return
        start, entry = time.perf_counter(), {"settings": settings, "done": False}
        seconds = before["seconds"] if same else 0.0
        self._note(name, {**entry, "seconds": seconds})  # that it has begun, should it be killed
        try:
            entry |= work() | {"done": True}
        finally:
            self._note(name, {**entry, "seconds": seconds + time.perf_counter() - start})

    @property
    def seconds(self) -> float:
        """Of all phases together."""
        return sum(entry["seconds"] for entry in self.entries.values())

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        self.entries[name] = entry
        self.save()

    def save(self) -> None:
        write_whole(self.path, json.dumps(self.entries, indent=1) + "\n")


def _open(folder: Path, settings: dict[str, dict[str, Any]], fresh: bool) -> Notes:
    """The notes of the folder, which is locked.

    Raises:
        ValueError: it holds something else, or one of the phases in ``settings`` has begun with other ones.
    """
    content, notes = list(folder.iterdir()), Notes(folder / NOTES)
    if content and not notes.path.exists():
        raise ValueError(f"{folder} is not empty and holds no quickstart (no {NOTES}); say --out another folder")
    notes.entries = {} if fresh else notes.entries
    then, now = {}, {}
    for phase in filter(notes.entries.__contains__, settings):
        then, now = then | notes.entries[phase]["settings"], now | settings[phase]
    refuse_other(folder, differences(then, now), "say --out another folder, or --fresh to start over in this one")
    notes.save()  # before anything is deleted: an interruption must not leave notes of what is gone
    for path in set(content) - {notes.path} if fresh else ():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return notes


def _recipe(steps: int | None, seed: int) -> Recipe:
    recipe = RECIPES[RECIPE]()
    changed = {"seed": seed} | ({} if steps is None else {"steps": steps})
    return replace(recipe, train=replace(recipe.train, **changed))


def _record(folder: Path, episodes: int, seed: int, workers: int) -> dict[str, Any]:
    recording = record(ENV, folder / "dataset", episodes, ENV_ARGS, workers=workers, seed=seed, cache=True)
    return {"episodes": recording.episodes, "frames": recording.frames}


def _train(folder: Path, recipe: Recipe) -> dict[str, Any]:
    run = train(recipe.policy, recipe.train, folder / "dataset", folder / "run")
    policy = checkpoint.load(run)
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    return {"samples": recipe.train.steps * recipe.train.batch_size, "parameters": parameters}


def _evaluate_all(folder: Path, notes: Notes, seed: int, scenes: int, contrast: int, workers: int) -> None:
    for name, trial in TRIALS.items():
        made = {"checkpoint": checkpoint.fingerprint(folder / "run"), "seed": seed}
        made["episodes"] = contrast if trial.contrast else scenes
        notes.phase(name, made, partial(_evaluate, folder, name, made, workers))


def _evaluate(folder: Path, name: str, made: dict[str, Any], workers: int) -> dict[str, Any]:
    trial, out = TRIALS[name], folder / "eval" / name
    shutil.rmtree(out, ignore_errors=True)
    result = evaluate(
        checkpoint.load(folder / "run").to(pick_device()),
        ENV,
        ENV_ARGS | trial.env_args,
        episodes=made["episodes"],
        seed=made["seed"],
        instructions=trial.instructions,
        workers=workers,
        videos=trial.videos,
        video_format="webp",
        out=out,
        checkpoint=made["checkpoint"],
        title=trial.title.lower(),
    )
    if result["partial"] or result["unfilmed"]:
        raise KeyboardInterrupt(f"stopped while evaluating; what is finished is in {folder}")
    return {"episodes": result["aggregated"]["n_episodes"]}


def _example(folder: Path, seed: int) -> list[str]:
    """Save the pictures of one new scene; the arguments of ``plait act`` that ask about it."""
    env = envs.make(ENV, **ENV_ARGS)
    observation, info = env.reset(seed=evaluation_seed(seed, 0))
    env.close()
    (folder / "example").mkdir(exist_ok=True)
    arguments = []
    for camera in sorted(env.unwrapped.embodiment.cameras):  # pyright: ignore[reportAttributeAccessIssue]
        path = folder / "example" / f"{camera}.png"
        Image.fromarray(observation[f"observation.images.{camera}"]).save(path)
        arguments += [f"--image {camera}={path}"]
    state = ",".join(f"{value:.4f}" for value in observation["observation.state"])
    return [*arguments, f"--state={state}", f'--instruction "{info["task"]}"']


def _tell(results: dict[str, dict[str, Any]], notes: Notes, page: Path) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("scenes", "success", "95 % interval", "lifts named", "named before"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, result in results.items():
        total = result["aggregated"]
        low, high = total["pc_success_ci95"]
        shares = (f"{total[key]:.0f} %" for key in ("pc_named", "pc_first_named"))
        row = (str(total["n_episodes"]), f"{total['pc_success']:.1f} %", f"{low:.0f} – {high:.0f} %", *shares)
        table.add_row(TRIALS[name].title, *row)
    console = Console()
    console.print(table)
    console.print(f"\n{duration(notes.seconds)} in all. The page: [bold]{page}[/bold]")
