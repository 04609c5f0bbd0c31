"""Ctrl-C and SIGTERM as a wish that the loop grants between two steps."""

import signal
import sys
import threading
from types import FrameType


class Interrupt:
    """While entered, the first signal sets ``requested``; a second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interrupt":
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # only there may signals be handled
            self._previous = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nstopping after this step and writing a checkpoint; once more stops at once", file=sys.stderr)
