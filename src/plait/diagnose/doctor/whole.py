"""Is the dataset whole: numbers, instructions and times of each frame, and videos as long as their episodes?"""

from collections.abc import Iterator

from plait.data.checks import pairing
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.finding import Finding


def whole(case: Case) -> Iterator[Finding]:
    """Numbers, instructions, times and lengths of videos belong together."""
    yield from (Finding("error", problem) for problem in pairing(case.dataset))
