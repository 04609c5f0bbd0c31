"""Where the numbers of a run go: JSON lines (one per step, exact) and TensorBoard, both cut to the step of a resume."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from plait.files import read_json_lines, write_whole

LOG = "log.jsonl"


class Tracker:
    """The log of one run.

    Losses stay on their device until ``read``, so that logging every step does not make a GPU wait. What was read is
    written with the next ``add``: by then, a GPU has the next update to work on.

    Args:
        folder: the run's folder.
        step: updates made so far; what the log says about later ones is dropped.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._pending: list[tuple[int, dict[str, Tensor]]] = []
        self._measured: dict[int, dict[str, float]] = {}
        self._rows: list[dict[str, float]] = []
        _cut(folder / LOG, step)
        self._file = (folder / LOG).open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._file.close()
        self._board.close()

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Note the losses (scalars) of one step.

        Raises:
            FloatingPointError: a loss that was read is not finite; the steps up to it are written.
        """
        self._write()
        self._pending.append((step, losses))

    def measure(self, measurements: Iterable[tuple[str, float]]) -> None:
        """Note measurements beside the losses of the newest step."""
        step, _ = self._pending[-1]
        self._measured.setdefault(step, {}).update(measurements)

    def read(self) -> dict[str, float]:
        """Wait for what was noted and return the row of the newest step; {} when nothing was noted."""
        rows = [row | self._measured.get(int(row["step"]), {}) for row in _rows(self._pending)]
        self._pending, self._measured = [], {}
        self._rows += rows
        return rows[-1] if rows else {}

    def flush(self) -> None:
        """Write all that was noted now.

        Raises:
            FloatingPointError: as ``add``.
        """
        self.read()
        self._write()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        for row in rows:
            self._file.write(json.dumps(row) + "\n")
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, int(row["step"]))
            if not math.isfinite(row["loss"]):
                self._file.flush()
                raise FloatingPointError(
                    f"the loss became {row['loss']} at step {row['step']:.0f}; lower the learning rate"
                    " (--train.learning-rate), or look for broken values in the dataset."
                )
        self._file.flush()


class Mute(Tracker):
    """The tracker of a process that does not write: everything is taken, for others may wait for it, and dropped."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        pass

    def measure(self, measurements: Iterable[tuple[str, float]]) -> None:
        for _ in measurements:
            pass

    def read(self) -> dict[str, float]:
        return {}

    def flush(self) -> None:
        pass


def _rows(pending: list[tuple[int, dict[str, Tensor]]]) -> list[dict[str, float]]:
    """One row per step, read from the device in one transfer per name."""
    if not pending:
        return []
    names = list(pending[0][1])
    columns = {name: torch.stack([losses[name].float() for _, losses in pending]).tolist() for name in names}
    return [{"step": step, **{name: columns[name][i] for name in names}} for i, (step, _) in enumerate(pending)]


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's log, oldest first; a line that was cut off by a kill is left out."""
    return read_json_lines(folder / LOG)


def usual_speed(folder: Path) -> dict[str, float]:
    """The medians of ``samples_per_s``, ``data_wait`` and ``mfu``, as far as the log of the run tells them."""
    rows = read_log(folder)
    columns = {name: [row[name] for row in rows if name in row] for name in ("samples_per_s", "data_wait", "mfu")}
    return {name: median(values) for name, values in columns.items() if values}


def _cut(path: Path, step: int) -> None:
    """Keep the rows up to ``step``, each once."""
    rows = [row for row in read_log(path.parent) if row["step"] <= step]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
