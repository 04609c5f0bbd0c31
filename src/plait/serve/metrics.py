"""What a server counts, as Prometheus reads it (text format 0.0.4)."""

from collections import Counter
from collections.abc import Iterator

BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds


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
            ``superseded`` and ``silent`` do not.
        modes: safety mode -> seconds that sessions spent in it, those of all sessions added.
        sessions: open ones.
    """

    def __init__(self) -> None:
        self.latency_ms, self.batch = Histogram(), Histogram((1, 2, 4, 8, 16, 32))
        self.misses = self.opened = self.sessions = 0
        self.faults: Counter[str] = Counter()
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
        yield from _described("plait_faults_total", "counter", "What went wrong in sessions, by kind.")
        yield from (f'plait_faults_total{{kind="{kind}"}} {count}' for kind, count in sorted(self.faults.items()))
        yield from _described("plait_sessions", "gauge", "Open sessions.")
        yield f"plait_sessions {self.sessions}"
        yield from _described("plait_sessions_opened_total", "counter", "Sessions that were ever opened.")
        yield f"plait_sessions_opened_total {self.opened}"
        yield from _described("plait_mode_seconds_total", "counter", "Time of sessions in each safety mode.")
        yield from (
            f'plait_mode_seconds_total{{mode="{mode}"}} {seconds:.3f}' for mode, seconds in sorted(self.modes.items())
        )


def _described(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
