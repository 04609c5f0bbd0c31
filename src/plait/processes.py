"""Worker processes: a function in a fresh interpreter, and whole messages of bytes to and from it.

A fresh interpreter inherits no OpenGL or CUDA context and does not run the user's script again, so that workers can be
started from anywhere: a script, a notebook, standard input. Nothing is pickled. A worker ends when it finds its channel
closed, also after a ``kill -9`` of the main process. Ctrl-C is the main process's business.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from socket import socketpair

_MESSAGE, _ERROR = b"m", b"e"  # a message's first byte
_KINDS = {"ValueError": ValueError, "OSError": OSError}  # of errors; a worker's others are a RuntimeError here
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from plait.processes import run; run(*sys.argv[2:])"
_ONE_THREAD = {"LP_NUM_THREADS": "0", "OMP_NUM_THREADS": "1"}  # Mesa draws in the thread that asks; numpy has one
_LAST_WORDS = 4096  # bytes of what a dead worker printed that are searched for its last line


class Gone(Exception):
    """The process at the other end of the channel has ended, or closed it."""


class Channel:
    """One end of the line between the main process and a worker."""

    def __init__(self, descriptor: int) -> None:
        self.connection = Connection(descriptor)

    def send(self, message: bytes) -> None:
        """Raises ``Gone`` when nobody can receive it."""
        self._send(_MESSAGE + message)

    def fail(self, error: Exception) -> None:
        """Let the other end's ``receive`` raise this error."""
        kind = next((name for name, kind in _KINDS.items() if isinstance(error, kind)), "")
        plain = kind or isinstance(error, RuntimeError)
        text = str(error) if plain else f"{type(error).__name__}: {error}"
        self._send(_ERROR + json.dumps([kind, text]).encode())

    def receive(self) -> bytes:
        """The next message; waits for it.

        Raises:
            Gone: there will be none.
            ValueError, OSError, RuntimeError: what went wrong at the other end.
        """
        try:
            message = self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone from error
        if message[:1] == _ERROR:
            kind, text = json.loads(message[1:])
            raise _KINDS.get(kind, RuntimeError)(text)
        return message[1:]

    def send_raw(self, data: memoryview) -> None:
        """Many bytes behind a message, uncopied. Raises ``Gone`` when nobody can receive them."""
        rest = data.cast("B")
        try:
            while rest:
                rest = rest[os.write(self.connection.fileno(), rest) :]
        except OSError as error:
            raise Gone from error

    def receive_raw(self, room: memoryview) -> None:
        """Fill ``room`` with what the other end's ``send_raw`` sends. Raises ``Gone`` when it ends before."""
        rest = room.cast("B")
        while rest:
            try:
                count = os.readv(self.connection.fileno(), [rest])
            except OSError as error:
                raise Gone from error
            if not count:
                raise Gone
            rest = rest[count:]

    def _send(self, message: bytes) -> None:
        try:
            self.connection.send_bytes(message)
        except OSError as error:
            raise Gone from error


class Worker(Channel):
    """A process that was started here, seen through its channel.

    Args:
        name: what messages call it.
        target: ``"module:function"``; the function takes the other end of the channel, and its errors are raised by
            ``receive``. Modules are found where this process finds them.
        descriptors: of open files that it inherits, under the same numbers.
    """

    def __init__(self, name: str, target: str, descriptors: Iterable[int] = ()) -> None:
        self.name = name
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115  not a pipe, which would have to be emptied
        mine, its = socketpair()
        command = [sys.executable, "-c", _START, json.dumps(list(map(str, sys.path))), target, str(its.fileno())]
        with its:
            self.process = subprocess.Popen(
                command,
                pass_fds=[its.fileno(), *descriptors],
                stdin=subprocess.DEVNULL,
                stdout=self.printed,
                stderr=self.printed,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,  # the terminal's Ctrl-C does not reach it
            )
        super().__init__(mine.detach())

    def send(self, message: bytes) -> None:
        """Lost on a dead worker, which ``receive`` tells."""
        with suppress(Gone):
            super().send(message)

    def obituary(self, doing: str = "") -> str:
        """How it died, what it was ``doing`` (as the caller says) and the last line that it printed."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self.process.kill()
        code = self.process.wait()
        how = f"ended with status {code}" if code >= 0 else f"was killed by signal {-code}"
        how += " (out of memory?)" if code == -9 else ""
        self.printed.seek(max(0, self.printed.seek(0, os.SEEK_END) - _LAST_WORDS))
        last = self.printed.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"{self.name} (process {self.process.pid}) {how}{doing}{f': {last[0]}' if last else ''}"


def stop(workers: Iterable[Worker], patience: float = 1.0) -> None:
    """End workers: each frees what it holds and goes; one that is still busy after ``patience`` seconds is killed."""
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + patience
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.wait()
        worker.printed.close()


def run(target: str, descriptor: str) -> None:
    """A worker's life, called in its process."""
    channel = Channel(int(descriptor))
    module, _, function = target.partition(":")
    with suppress(Gone):  # the main process has ended, or needs this worker no more
        try:
            getattr(import_module(module), function)(channel)
        except Gone:
            raise
        except Exception as error:
            channel.fail(error)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
