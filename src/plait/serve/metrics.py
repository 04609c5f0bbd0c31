"""What a server counts, as Prometheus reads it (text format 0.0.4)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds
FAULTS = ("missing", "late", "wrong", "empty", "black", "white", "constant", "noisy", "frozen")


def fault(reason: str) -> str:
    """The kind of an input's fault, from what health says of it: one of ``FAULTS``, or ``other`` (numbers or words that
    cannot be used). What a user has sent is never a part of it.
    """
    word = reason.split(maxsplit=1)[0].rstrip(",")
    return word if word in FAULTS else "other"


class Histogram:
    """How many values are at most so large, and their sum."""

    def __init__(self, buckets: tuple[float, ...] = BUCKETS) -> None:
        self.buckets, self.counts = buckets, [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        place = next((i for i, bound in enumerate(self.buckets) if value <= bound), len(self.buckets))
        self.counts[place] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip([*self.buckets, "+Inf"], self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.6g}"
        yield f"{name}_count {total}"


class Metrics:
    """One server's numbers since it started.

    Attributes:
        latency_ms: from an observation's arrival to its answer.
        batch: observations that were computed together.
        misses: answers that came later than the deadline.
        faults: kind -> how many: ``malformed``, ``refused``, ``failed``, ``late``, ``slow_reader`` end a session;
            ``superseded``, ``silent`` and ``unanswered`` do not.
        input_faults: (modality, ``fault``) -> how often one began.
        limited: reason -> how many actions the envelope has changed.
        modes: safety mode -> seconds that sessions spent in it, those of all sessions added.
        sessions: open ones.
    """

    def __init__(self) -> None:
        self.latency_ms, self.batch = Histogram(), Histogram((1, 2, 4, 8, 16, 32))
        self.misses = self.opened = self.sessions = 0
        self.faults: Counter[str] = Counter()
        self.input_faults: Counter[tuple[str, str]] = Counter()
        self.limited: Counter[str] = Counter()
        self.modes: dict[str, float] = {}

    def in_mode(self, mode: str, seconds: float) -> None:
        """A session spent so many seconds in this safety mode."""
        self.modes[mode] = self.modes.get(mode, 0.0) + seconds

    def text(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _described("plait_latency_ms", "histogram", "From an observation's arrival to its answer.")
        yield from self.latency_ms.lines("plait_latency_ms")
        yield from _described("plait_batch_size", "histogram", "Observations that were computed together.")
        yield from self.batch.lines("plait_batch_size")
        yield from _described("plait_deadline_misses_total", "counter", "Answers that came later than the deadline.")
        yield f"plait_deadline_misses_total {self.misses}"
        yield from _counted("plait_faults_total", "What went wrong in sessions, by kind.", self.faults, "kind")
        yield from _counted(
            "plait_input_faults_total", "Faults of inputs that began.", self.input_faults, "modality", "fault"
        )
        yield from _counted(
            "plait_actions_limited_total", "Actions that the envelope has changed.", self.limited, "reason"
        )
        yield from _described("plait_sessions", "gauge", "Open sessions.")
        yield f"plait_sessions {self.sessions}"
        yield from _described("plait_sessions_opened_total", "counter", "Sessions that were ever opened.")
        yield f"plait_sessions_opened_total {self.opened}"
        yield from _counted("plait_mode_seconds_total", "Time of sessions in each safety mode.", self.modes, "mode")


def _counted(name: str, text: str, counts: Mapping[Any, float], *labels: str) -> Iterator[str]:
    """Args: counts: by the label's value, or by a tuple of several."""
    yield from _described(name, "counter", text)
    for key, count in sorted(counts.items()):
        values = map(_escaped, (key,) if len(labels) == 1 else key)
        told = ",".join(f'{label}="{value}"' for label, value in zip(labels, values, strict=True))
        yield f"{name}{{{told}}} {round(count, 3)}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _described(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
