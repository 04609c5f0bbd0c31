"""What a person sees while something takes long."""

import sys
import threading

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A progress bar on a terminal; elsewhere one plain line per tenth of the way. Both on standard error.

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

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, count: int = 1, status: str = "") -> None:
        """``count`` more are done; ``status`` is shown beside them."""
        with self._lock:
            before, self.completed = self.completed, self.completed + count
            self._progress.update(self._task, completed=self.completed, status=status)
            if self._plain and self.completed * 10 // self.total > before * 10 // self.total:
                line = f"{self.title}: {self.completed} of {self.total} {self.unit}  {status}"
                print(line.rstrip(), file=sys.stderr, flush=True)
