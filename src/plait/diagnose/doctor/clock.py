"""Do the frames' times agree with the rate, and are the episodes long enough?"""

from collections.abc import Iterator

import numpy as np

from plait.diagnose.doctor.case import Case, span
from plait.diagnose.doctor.finding import Finding, skipped, some

DRIFT = 0.002  # of the rate
CERTAIN = 4  # standard errors: less is what jitter makes of a clock that is right
JITTER = 0.001  # s
SHORTEST = 3  # frames
SHORT = 0.1  # of the median length


def clock(case: Case) -> Iterator[Finding]:
    """Each time is frame number / fps."""
    if "timestamp" not in case.dataset.columns.values:
        yield skipped("the dataset has no timestamps")
        return
    rate = float(case.dataset.info["fps"])
    times = [case.dataset.columns.values["timestamp"][span(row)].astype(np.float64) for row in case.dataset.episodes]
    times = [time - time[0] for time in times if len(time) > 1]
    steps = [np.diff(time) for time in times]
    if stuck := [i for i, step in enumerate(steps) if (step <= 0).any()]:
        rule = "a time comes twice or goes back, where each frame is later than the one before"
        yield Finding("error", f"timestamp: in episodes {some(stuck)} {rule}; drop the repeated frames")
        return
    pace, error = _pace(times, rate)
    worst = max((float(np.abs(time - np.arange(len(time)) / rate).max()) for time in times), default=0.0)
    numbers = {"fps": rate, "measured_fps": rate / pace, "worst_s": worst}
    if abs(pace - 1) > max(DRIFT, CERTAIN * error):
        measured = f"{rate / pace:.4g} frames per second by timestamp, fps says {rate:g}"
        fix = "write the true rate to meta/info.json, or resample the frames"
        yield Finding("error", f"the clock drifts: {measured} (they may differ by {DRIFT:.1%}); {fix}", numbers)
    elif worst > JITTER:
        rule = f"{1000 * worst:.1f} ms away from frame number / fps (at most {1000 * JITTER:g} ms)"
        fix = "resample the frames to even steps; lerobot refuses such a video"
        yield Finding("warning", f"timestamps are up to {rule}; {fix}", numbers)


def _pace(times: list[np.ndarray], rate: float) -> tuple[float, float]:
    """Measured time by frame number / fps, and its standard error: the median of the episodes' straight lines."""
    paces, errors = [], []
    for time in times:
        frame = np.arange(len(time)) - (len(time) - 1) / 2
        spread = (frame**2).sum()
        slope = (frame * time).sum() / spread
        left = time - time.mean() - slope * frame
        paces.append(rate * slope)
        errors.append(rate * np.sqrt((left**2).sum() / max(len(time) - 2, 1) / spread))
    if not times:
        return 1.0, 0.0
    return float(np.median(paces)), float(1.25 * np.median(errors) / np.sqrt(len(times)))  # 1.25: of a median


def length(case: Case) -> Iterator[Finding]:
    """No episode is a fragment."""
    lengths = np.array([row.length for row in case.dataset.episodes])
    least = max(SHORTEST, SHORT * float(np.median(lengths)))
    short = np.flatnonzero(lengths < least).tolist()
    numbers = {"shortest": int(lengths.min()), "median": float(np.median(lengths)), "longest": int(lengths.max())}
    if short:
        shown = f"episodes {some(short)} have {lengths[short].min()} to {lengths[short].max()} frames"
        rule = f"fewer than {least:.3g}, a tenth of the median and at least {SHORTEST}, are a fragment"
        yield Finding("warning", f"{shown}; {rule}: drop them", numbers)
    else:
        shown = f"{numbers['shortest']} to {numbers['longest']} frames an episode, median {numbers['median']:g}"
        yield Finding("ok", shown, numbers)
