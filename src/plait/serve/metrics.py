"""What is counted: of a server, as Prometheus reads it (text format 0.0.4), and of a run of the control loop."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.safety.modes import Mode

BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds
KINDS = ("malformed", "refused", "failed", "slow_reader", "superseded", "silent", "unanswered", "policy_failed")
REFUSALS = ("key", "name", "connected", "full", "misfit", "rate", "large")
FAULTS = ("missing", "late", "wrong", "empty", "black", "white", "constant", "noisy", "frozen")
OTHER = "other"
LIMITS = ("limits", "acceleration", "speed", "slowed", "box", "held", "stale", "not finite")


def fault(reason: str) -> str:
    """The kind of an input's fault, from what health says of it: one of ``FAULTS``, or ``OTHER`` (numbers or words that
    cannot be used). What a user has sent is never a part of it.
    """
    word = reason.split(maxsplit=1)[0].rstrip(",")
    return word if word in FAULTS else OTHER


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
    """One server's numbers since it started. What is known before it happens begins at 0, so that an increase is seen.

    Args:
        modalities: those of which input faults can be.

    Attributes:
        latency_ms: from an observation's arrival to its answer.
        batch: observations that were computed together.
        misses: answers that came later than the deadline.
        faults: kind -> how many: ``malformed``, ``refused``, ``failed``, ``slow_reader`` end a session;
            ``superseded``, ``silent`` and ``unanswered`` do not, nor does ``policy_failed`` where there is an envelope.
        refusals: kind -> how many: ``key``, ``name``, ``connected`` and ``full`` get no session; ``misfit`` (a first
            observation) and ``rate`` end one, and count in ``faults`` too.
        input_faults: (modality, ``fault``) -> how often one began.
        limited: reason -> how many actions the envelope has changed, of those of a chunk that are to be executed.
        modes: safety mode -> seconds that sessions spent in it, those of all sessions added.
        sessions: open ones.
    """

    def __init__(self, modalities: Iterable[str] = ()) -> None:
        self.latency_ms, self.batch = Histogram(), Histogram((1, 2, 4, 8, 16, 32))
        self.misses = self.opened = self.sessions = 0
        pairs = [(modality, kind) for modality in modalities for kind in (*FAULTS, OTHER)]
        self.faults: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.refusals: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self.input_faults: Counter[tuple[str, str]] = Counter(dict.fromkeys(pairs, 0))
        self.limited: Counter[str] = Counter(dict.fromkeys(LIMITS, 0))
        self.modes: dict[str, float] = {str(mode): 0.0 for mode in Mode}

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
        yield from _counted("plait_refusals_total", "Clients that were refused, by kind.", self.refusals, "kind")
        yield from _counted(
            "plait_input_faults_total", "Faults of inputs that began.", self.input_faults, "modality", "fault"
        )
        text = "Actions sent to be executed (the first 'execute' of each chunk) that the envelope has changed."
        yield from _counted("plait_actions_limited_total", text, self.limited, "reason")
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


@dataclass(frozen=True)
class Report:
    """What a run of the control loop was like.

    Attributes:
        ticks: actions that left.
        rate, achieved: actions per second, as was asked for and as they left.
        misses: actions that left more than one step too late.
        starved: actions for which no chunk was ready, so that the robot held although it was allowed to move.
        late_ms, infer_ms: percentiles (p50, p99, p99.9, p99.99, max) of how much too late an action left, and of how
            long a prediction took. An action is due a step after the one before was due, or when that left, if later.
        delay: the most steps that passed while a prediction was made.
        stalls: how often the robot's ``observe`` or ``act`` took so long that the watchdog commanded a hold.
        modes: safety mode -> ticks in it. One in which the action was held back counts as ``hold``: it was starved, its
            chunk was stale, or not finite.
        reasons: the last ones that the envelope gave; empty when there was never any.
    """

    ticks: int
    rate: float
    achieved: float
    misses: int
    starved: int
    late_ms: dict[str, float]
    infer_ms: dict[str, float]
    delay: int
    stalls: int
    modes: dict[str, int]
    reasons: tuple[str, ...]


def percentiles(values: list[float]) -> dict[str, float]:
    """``{"p50", "p99", "p99.9", "p99.99", "max"}``; empty for no values."""
    if not values:
        return {}
    shares = {"p50": 50, "p99": 99, "p99.9": 99.9, "p99.99": 99.99, "max": 100}
    return {name: round(float(np.percentile(values, share)), 3) for name, share in shares.items()}
