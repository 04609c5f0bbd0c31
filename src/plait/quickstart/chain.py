"""``plait quickstart``: record the built-in task, train a policy and diagnose it on this machine, and leave one page.

quickstart/dataset/          demonstrations, a LeRobotDataset
quickstart/run/              the training run, with its checkpoints
quickstart/report.html       the short form of the diagnosis, and how the policy came about; beside it the diagnosis's
                             diagnose.json, parts/ and eval/ (see plait.diagnose.report)
quickstart/example/          pictures of one scene, to ask the policy about
quickstart/quickstart.json   which phases are done, with what settings, and how long they took
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

import plait
from plait import checkpoint, envs
from plait.config import differences, refuse_other, refuse_small
from plait.diagnose.report import FAST, PAGE, report
from plait.diagnose.subject import Subject
from plait.evaluate.protocol import evaluation_seed
from plait.files import locked, read_json, write_whole
from plait.nn.device import pick_device
from plait.processes import processors
from plait.quickstart.report import duration, sections
from plait.recipes import RECIPES, Recipe
from plait.record.recorder import record
from plait.train.policy import train

ENV, ENV_ARGS = "tabletop", {"vocabulary": "small"}  # 4 colours and 3 shapes
RECIPE, NOTES = "tabletop-pick", "quickstart.json"
FEWEST = 10  # demonstrations; fewer do not fill one batch


def quickstart(
    out: Path | str = "quickstart",
    *,
    episodes: int = 1500,
    steps: int | None = None,
    scenes: int = 200,
    contrast: int = 50,
    seed: int = 0,
    workers: int | None = None,
    fresh: bool = False,
) -> Path:
    """Do it all, and print each verdict; a second call does only what is not done yet, and the whole diagnosis when the
    numbers of scenes are others.

    Args:
        out: folder for everything.
        episodes: demonstrations to record.
        steps: of training; the recipe's number when omitted.
        scenes, contrast: episodes of each evaluation, and of those for contrast (see ``Subject``).
        seed: of the demonstrations, the training and the scenes.
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
    refuse_small(episodes=(episodes, FEWEST), scenes=(scenes, 2), contrast=(contrast, 1))
    refuse_small(seed=(seed, 0), workers=(workers, 1))
    folder, recipe = Path(out), _recipe(steps, seed)
    made = {"episodes": episodes, "seed": seed, "plait": plait.__version__}
    trained = {**made, "steps": recipe.train.steps, "batch_size": recipe.train.batch_size}
    with locked(folder):
        notes = _open(folder, {"record": made, "train": trained}, fresh)
        notes.phase("record", made, lambda: _record(folder, episodes, seed, workers))
        notes.phase("train", trained, lambda: _train(folder, recipe))
        subject = Subject(
            checkpoint.load(folder / "run").to(pick_device()),
            ENV,
            ENV_ARGS,
            checkpoint=checkpoint.fingerprint(folder / "run"),
            episodes=scenes,
            contrast=contrast,
            seed=seed,
            workers=workers,
        )
        _diagnose(subject, folder, notes)
    return folder / PAGE


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


def _diagnose(subject: Subject, folder: Path, notes: Notes) -> None:
    """Print the verdicts as they are found; write the page, even if nothing has changed."""
    example, seconds = _example(folder, subject.seed), notes.seconds
    for _, answer in report(subject, folder, FAST, lambda found: sections(folder, notes.entries, found, example)):
        print(f"{answer.question}  {answer.verdict}", flush=True)
        seconds += answer.seconds
    print(f"{duration(seconds)} in all. The page: {folder / PAGE}")


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
