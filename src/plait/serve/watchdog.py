"""What keeps a robot from running on when its own code hangs or is told to end."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does, where nobody handles it and where Python lets it be handled."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Watchdog:
    """Calls ``stalled``, from a thread of its own, when nothing has fed it for so many seconds; once until it is fed
    again. It watches from the first ``feed`` on, while its context is entered.

    Attributes:
        stalls: how often that was.
    """

    def __init__(self, seconds: float, stalled: Callable[[], None]) -> None:
        self.seconds, self.stalled, self.stalls = seconds, stalled, 0
        self._fed: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="plait-watchdog", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._end.set()

    def feed(self) -> None:
        self._fed = time.monotonic()

    def _watch(self) -> None:
        while not self._end.wait(self.seconds / 4):
            fed = self._fed
            if fed is not None and time.monotonic() - fed > self.seconds:
                self._fed, self.stalls = None, self.stalls + 1
                with suppress(Exception):  # it goes on watching
                    self.stalled()
