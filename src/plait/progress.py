"""What a person sees while something takes long."""

import sys
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PAUSE = 10.0  # seconds between two plain lines, at least


class Bar:
    """A progress bar on a terminal; elsewhere a plain line per tenth of the way, at most one in ten seconds.

    Both on standard error; a short job has no line at all.

    A context manager. Threads may share it.

    Args:
        title: what is done, such as ``"recording"``.
        total: how many ``unit`` it takes.
        completed: how many are done already.
        quiet: show nothing.
    """

    def __init__(self, title: str, total: int, unit: str, completed: int = 0, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self.title, self.total, self.unit, self.completed = title, total, unit, completed
        self._plain = not quiet and not console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[status]}}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=quiet or self._plain)
        self._task = self._progress.add_task(title, total=total, completed=completed, status="")
        self._lock = threading.Lock()
        self._told = (completed * 10 // max(1, total), time.monotonic())  # tenth and time of the last line

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, count: int = 1, status: str = "") -> None:
        """``count`` more are done; ``status`` is shown beside them."""
        with self._lock:
            self.completed += count
            self._progress.update(self._task, completed=self.completed, status=status)
            tenth, now = self.completed * 10 // self.total, time.monotonic()
            if self._plain and tenth > self._told[0] and now - self._told[1] >= PAUSE:
                self._told = tenth, now
                line = f"{self.title}: {self.completed} of {self.total} {self.unit}  {status}"
                print(line.rstrip(), file=sys.stderr, flush=True)
