"""Executed again in the recorded scene, the actions lead to the recorded states, and to success."""

from collections.abc import Iterator

from plait.diagnose.doctor.case import REPLAYS, Case, spaced, span
from plait.diagnose.doctor.explain import Shown, difference, execute, explain
from plait.diagnose.doctor.finding import Finding, skipped, some

CLOSE = 0.05  # standard deviations of the state, as root mean square
TRIED = 2  # episodes on which faults are tried


def replay(case: Case) -> Iterator[Finding]:
    """Recorded actions reproduce the recorded states, and success."""
    if case.no_scenes:
        yield skipped(case.no_scenes)
        return
    chosen = spaced(case.scenes, REPLAYS)
    episodes = [Shown(scene, case.state[span(scene.row)], case.action[span(scene.row)]) for scene in chosen]
    replays = [execute(case, each.scene, each.action) for each in episodes]
    apart = [difference(case, each.state, again.state) for each, again in zip(episodes, replays, strict=True)]
    bad = [i for i, again in enumerate(replays) if not again.success or apart[i] > CLOSE]
    successes, gap = sum(again.success for again in replays), max(apart)  # the worst: each episode is judged
    numbers = {"episodes": len(episodes), "successes": successes, "difference": round(gap, 4)}
    said = f"{successes} of {len(episodes)} replays succeed, states differ by up to {gap:.3g} standard deviations"
    if not bad:
        yield Finding("ok", said, numbers)
        return
    said, these = f"{said} (at most {CLOSE:g})", ""
    if len(bad) < len(episodes):
        which = some([chosen[i].row.index for i in bad])
        said, these = f"{said}; of the replayed ones, episodes {which} are not as recorded", "in these, "
    tried = sorted(bad, key=lambda i: -len(episodes[i].action))[:TRIED]  # a fragment shows no delay
    found = explain(case, [episodes[i] for i in tried], [replays[i] for i in tried], CLOSE)
    if found is None:
        nothing = "no single sign, order, delay, scale or unit explains it"
        fix = "compare the environment, its arguments and its version with the recording"
        yield Finding("error", f"{said}; {nothing}: {fix}", numbers)
    else:
        left = f"without that, {found.successes} of {len(tried)} succeed and {found.difference:.2f} is left"
        numbers |= {"explanation": found.sentence, "left": round(found.difference, 4)}
        yield Finding("error", f"{said}: {these}{found.sentence} ({left})", numbers)
