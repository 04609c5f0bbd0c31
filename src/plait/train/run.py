"""A run is a folder: what it was made with, its log, and its newest checkpoints.

runs/x/run.json               the configs and the dataset; the same command on the same folder continues
runs/x/log.jsonl              one line per step
runs/x/tensorboard/
runs/x/checkpoints/000500/    a checkpoint of plait.checkpoint, and training.safetensors and training.json beside it
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from plait.config import differences, refuse_other
from plait.files import read_json, room, write_whole
from plait.safety.calibration import FILE, Calibration, carry_over
from plait.train.state import NUMBERS, TrainState

Save = Callable[..., object]
"""``save(model, folder, provenance, extra)``: writes ``model.safetensors`` and whatever else describes the model,
calls ``extra`` with the unfinished folder, and makes the folder appear as a whole."""

FREE = {f"train.{name}" for name in ("log_every", "validate_every", "checkpoint_every", "keep")} | {
    f"train.{name}" for name in ("device", "compile", "cuda_graph", "shard")
}
"""Settings that may change when a run is continued."""


class Run:
    """One run's folder.

    Args:
        folder: where the run lives; created when it is not there.
        made_with: plain data that describes what the run is made with (configs, dataset).
        save: writes one model as a checkpoint.
        keep: number of checkpoints that are kept.

    Attributes:
        usual: what the data alone tell the safety envelope of a policy, for the first checkpoint; the next ones take it
            over, or what ``plait calibrate`` has made of it. None: nothing is known.

    Raises:
        ValueError: the folder holds checkpoints of a run made with something else or unknown, or what is no run.
    """

    def __init__(self, folder: Path, made_with: dict[str, Any], save: Save, keep: int = 2) -> None:
        self.folder, self.made_with, self.keep = folder, made_with, keep
        self.usual: Calibration | None = None
        self._save = save
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoints():
            refuse_other(folder, differences(_read_made_with(folder / "run.json"), made_with, FREE))
        elif any(folder.iterdir()) and not (folder / "run.json").exists():
            raise ValueError(f"{folder} is not empty and holds no run (no run.json); say --out another folder.")
        write_whole(folder / "run.json", json.dumps(made_with, indent=2) + "\n")
        for unfinished in folder.glob("checkpoints/.*"):  # a kill in the middle of a save
            shutil.rmtree(unfinished)

    def checkpoints(self) -> list[Path]:
        return checkpoints(self.folder)

    def step(self) -> int:
        return newest_step(self.folder)

    def resume(self, state: TrainState) -> None:
        """Bring ``state`` to the newest complete checkpoint, when there is one.

        Raises:
            ValueError: its files are damaged.
        """
        for newest in self.checkpoints()[-1:]:
            try:
                state.load(newest)
            except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
                raise damaged(newest, error) from error

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint of ``state``, unless it is there, and drop the oldest ones."""
        target = self.folder / "checkpoints" / f"{state.step:08d}"
        if target not in self.checkpoints():
            provenance, older = {**self.made_with, "step": state.step}, self.checkpoints()[-1:]

            def extra(unfinished: Path) -> None:
                state.save(unfinished)
                for before in older:
                    carry_over(before, unfinished)
                if self.usual is not None and not (unfinished / FILE).exists():
                    self.usual.save(unfinished)

            with room(target, lambda: saved(self.folder)):
                self._save(state.ema.model, target, provenance, extra)
        for old in self.checkpoints()[: -self.keep]:
            shutil.rmtree(old)
        return target


def damaged(checkpoint: Path, error: Exception) -> ValueError:
    return ValueError(f"{checkpoint} is damaged ({error}); delete it to go on from the one before.")


def _read_made_with(path: Path) -> dict[str, Any]:
    made_with = read_json(path) if path.exists() else None
    if not isinstance(made_with, dict):
        what = "holds no settings" if path.exists() else "is missing"
        raise ValueError(f"{path} {what}; restore it from a copy, or say --out another folder.")
    return made_with


def saved(folder: Path) -> str:
    """What of the run in ``folder`` is safe, for messages."""
    step = newest_step(folder)
    return f"step {step} is saved" if step else "nothing is saved yet"


def newest_step(folder: Path) -> int:
    """Of the newest complete checkpoint; 0 without one."""
    return max((int(path.name) for path in checkpoints(folder)), default=0)


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints that the run in ``folder`` can continue from, oldest first."""
    return sorted(path.parent for path in folder.glob(f"checkpoints/[0-9]*/{NUMBERS}"))
