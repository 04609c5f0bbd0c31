"""Do the pictures show the moment of their numbers, or are they late or early?"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from plait.data.keys import IMAGE_PREFIX
from plait.diagnose.doctor.case import Case, Scene, observed_state, spaced
from plait.diagnose.doctor.explain import difference, perform
from plait.diagnose.doctor.finding import Finding, frames, skipped, some
from plait.diagnose.doctor.pictures import small
from plait.diagnose.doctor.replay import CLOSE

FILMS, DRAWN = 3, 32  # episodes that are drawn again, and frames of each, at most: drawing takes most of the time
REACH = 4  # frames: a best fit at the end of what is tried is no fit
FEWEST = 3  # frames that are compared at every lag
EXPLAINED = 0.5  # share of what changes within the lag (mean square) that the lag must explain
SEEN = 0.5  # mean square in grey levels that must change within the lag


def moments(case: Case) -> Iterator[Finding]:
    """Pictures show the moment of their numbers: none of the cameras is late or early."""
    if case.no_scenes:
        yield skipped(case.no_scenes)
        return
    cameras = [camera for camera in case.spec.cameras if case.env_spec and camera in case.env_spec.cameras]
    late: dict[tuple[str, int], list[int]] = defaultdict(list)  # (camera, lag) -> episodes
    looked = 0
    for scene in spaced(case.scenes, FILMS):
        drawn = _drawn(case, scene, cameras)
        looked += bool(drawn)
        for camera, pictures in drawn.items():
            indices = range(scene.row.start, scene.row.start + len(pictures))
            if lag := lag_of(small(case.pictures(camera, indices)), small(pictures)):
                late[camera, lag].append(scene.row.index)
    if not looked:
        fewest = 2 * REACH + FEWEST
        yield skipped(f"no replay of {fewest} frames or more leads to the recorded states, with a camera of both")
    together: dict[tuple[int, ...], list[str]] = defaultdict(list)  # (lag, *episodes) -> cameras
    for (camera, lag), episodes in late.items():
        together[lag, *episodes].append(camera)
    for (lag, *episodes), which in together.items():
        yield _finding(which, lag, episodes, looked)
    if looked and not late:
        yield Finding("ok", f"no delay is seen in the pictures (episodes drawn again: {looked})")


def lag_of(recorded: np.ndarray, drawn: np.ndarray) -> int:
    """By how many frames the recorded pictures are late (negative: early); 0 where that cannot be told.

    Args:
        recorded, drawn: ``[n, h, w, 3]``, grey levels of 0 to 255, ``n > 2 * REACH``.
    """
    t = np.arange(REACH, len(drawn) - REACH)
    tried = sorted(range(-REACH, REACH + 1), key=abs)  # where nothing moves, all are equal: 0 comes first
    gaps = {lag: float(np.square(recorded[t] - drawn[t - lag]).mean()) for lag in tried}
    lag = min(gaps, key=gaps.__getitem__)
    moved = float(np.square(drawn[t] - drawn[t - lag]).mean())
    # noise adds the same to every gap, so that their difference is compared and not their ratio
    # and what is left at the best lag must be less than the lag changes: pictures of something else leave more
    told = gaps[0] - gaps[lag] > EXPLAINED * moved and gaps[lag] < moved and moved > SEEN
    return lag if told and abs(lag) < REACH else 0


def _finding(cameras: list[str], lag: int, episodes: list[int], looked: int) -> Finding:
    by, late = frames(abs(lag)), lag > 0
    which = f"{'camera' if len(cameras) == 1 else 'cameras'} {' and '.join(map(repr, cameras))}"
    said = f"{which}: pictures are {by} {'late' if late else 'early'}"
    where = f"in {len(episodes)} of {looked} replayed episodes ({some(episodes)})"
    rule = f"they show what the environment shows {by} {'before' if late else 'after'} their numbers"
    fix = f"pair each state and action with the picture {by} {'later' if late else 'earlier'}"
    return Finding("error", f"{said} {where}: {rule}; {fix}", {"cameras": cameras, "lag": lag, "episodes": episodes})


def _drawn(case: Case, scene: Scene, cameras: list[str]) -> dict[str, np.ndarray]:
    """Each camera's pictures of an episode's beginning, ``[n, h, w, 3]``; {} where that is short or differs."""
    assert case.env is not None
    indices = slice(scene.row.start, scene.row.start + min(scene.row.length, DRAWN))
    recorded = case.state[indices]
    shown = [observation for observation, _ in perform(case, case.env, scene, case.action[indices][:-1])]
    if len(shown) < 2 * REACH + FEWEST:
        return {}
    replayed = np.stack([observed_state(observation) for observation in shown])
    recorded = recorded[: len(shown)]
    if recorded.size and (recorded.shape != replayed.shape or difference(case, recorded, replayed) > CLOSE):
        return {}  # pictures of other movements tell nothing; replay says what is wrong
    return {camera: np.stack([observation[IMAGE_PREFIX + camera] for observation in shown]) for camera in cameras}
