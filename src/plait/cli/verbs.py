"""Every verb of the command line, and what is told when one fails. Loads neither torch nor any part of plait."""

import os
import signal
import sys
from contextlib import suppress

from plait.cli.act import Act
from plait.cli.align import Align
from plait.cli.calibrate import Calibrate
from plait.cli.catalogue import List
from plait.cli.compare import Compare
from plait.cli.diagnose import Diagnose
from plait.cli.doctor import Doctor
from plait.cli.evaluate import Eval
from plait.cli.parse import Verb, sentence
from plait.cli.quickstart import Quickstart
from plait.cli.record import Record
from plait.cli.serve import Serve
from plait.cli.train import Train
from plait.config import unknown

VERBS: dict[str, type[Verb]] = {
    "quickstart": Quickstart,
    "record": Record,
    "train": Train,
    "eval": Eval,
    "act": Act,
    "align": Align,
    "compare": Compare,
    "diagnose": Diagnose,
    "doctor": Doctor,
    "calibrate": Calibrate,
    "serve": Serve,
    "list": List,
}

USER_ERRORS = (ValueError, OSError, FloatingPointError, ImportError)  # one sentence is enough for these


def run(arguments: list[str]) -> int:
    """Run ``plait`` with ``arguments``; the process's exit code."""
    # Threads that wait for each other shall soon stop burning the processor. They spin for long by default, which makes
    # a training step ten times slower on a machine that does anything else beside. Read when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    with suppress(ValueError):  # outside of the main thread, signals are not handled
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # it interrupts as Ctrl-C does
    name, *rest = arguments or ["--help"]
    verb = VERBS.get(name, Verb)
    try:
        if name in ("--help", "-h", "help"):
            print(overview())
        elif name == "--version":
            print(version())
        elif name not in VERBS:
            raise unknown("command", name, VERBS)
        else:
            verb.parse(rest, f"plait {name}").run()
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        return _tell(str(interruption) or f"interrupted; {verb.kept}", 130)
    except SystemExit as end:  # tyro has shown a verb's help, or another process of a training tells what is wrong
        return int(end.code or 0)
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("PLAIT_DEBUG") == "1":
            raise
        if isinstance(error, USER_ERRORS):
            return _tell(sentence(error), 2)
        return _tell(f"{type(error).__name__}: {sentence(error)} (PLAIT_DEBUG=1 shows where)", 1)
    return 0


def overview() -> str:
    """Every verb with one line."""
    width = max(map(len, VERBS))
    rows = [f"  {name:{width}}  {(verb.__doc__ or '').splitlines()[0]}" for name, verb in VERBS.items()]
    return "\n".join(["usage: plait VERB [OPTIONS]", "", *rows, "", "plait VERB --help shows the options of a verb."])


def version() -> str:
    import plait

    return f"plait {plait.__version__}"


def _tell(message: str, code: int) -> int:
    print(f"plait: {message}", file=sys.stderr)
    return code
