"""Does the dataset fit the environment and the policy: names, conventions, and the pictures of the same scene?"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from plait.data.keys import IMAGE_PREFIX
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.finding import Finding, skipped, some
from plait.diagnose.doctor.pictures import AS_IT_IS, BETTER, COLOURS, DARK, TURNS, difference, small
from plait.spec import Spec

ALIKE = 3.0  # grey levels: pictures of one scene; video costs up to 2.5
ELSEWHERE = "of another episode"
SQUEEZED = 0.02  # of the ratio of width and height


def conventions(case: Case) -> Iterator[Finding]:
    """Cameras, entries, units, conventions, limits and rate are those of the environment and of the policy."""
    others = {"the environment": case.env_spec, "the policy": case.policy.spec if case.policy else None}
    known = {name: spec for name, spec in others.items() if spec is not None}
    if not known:
        yield skipped(f"{case.no_env}, and no policy (--checkpoint)")
    faults = list(_disagreements(case, known))
    yield from faults
    if known and not faults:
        held = "cameras, entries, units, conventions, limits and rate are those of"
        yield Finding("ok", f"{held} {' and of '.join(known)}")


def _disagreements(case: Case, known: dict[str, Spec]) -> Iterator[Finding]:
    for name, spec in known.items():
        for line in case.spec.differences(spec, "the dataset", name):
            yield Finding("error", f"{line}; use the one that fits, or convert the dataset")
        for camera in case.spec.cameras.keys() & spec.cameras.keys():
            (h, w), (height, width) = case.spec.cameras[camera], spec.cameras[camera]
            if abs(w * height / (h * width) - 1) > SQUEEZED:
                said = f"camera {camera!r} has {h}x{w} pixels, {name} {height}x{width}"
                yield Finding(
                    "warning", f"{said}: pictures are squeezed differently; use one ratio of width and height"
                )
    if case.policy is not None:
        spoken = {word for task in case.dataset.tasks for word in case.policy.tokenizer.unknown_words(task)}
        if spoken:
            said = f"the policy does not know the words {some(sorted(spoken))}"
            yield Finding("warning", f"{said}; train on this dataset, or use its words", {"words": sorted(spoken)})


def views(case: Case) -> Iterator[Finding]:
    """Each camera's first picture is the environment's of the same scene: the same camera, way up and colour order."""
    if case.no_scenes:
        yield skipped(case.no_scenes)
        return
    seen = case.env_spec.cameras if case.env_spec else {}
    for camera in case.spec.cameras:
        if camera in seen:
            yield _view(case, camera, [other for other in seen if other != camera])


def _view(case: Case, camera: str, others: list[str]) -> Finding:
    episodes = [scene.row.index for scene, _, _ in case.starts]
    recorded = small(case.pictures(camera, [scene.row.start for scene, _, _ in case.starts]))
    drawn = {c: small(np.stack([seen[IMAGE_PREFIX + c] for _, seen, _ in case.starts])) for c in (camera, *others)}
    gaps = np.array([difference(*pair) for pair in zip(drawn[camera], recorded, strict=True)])
    apart = np.flatnonzero(gaps > ALIKE).tolist()
    best: dict[str, list[int]] = defaultdict(list)  # how it fits -> scenes
    for k in apart:
        fits = _fits(drawn, camera, k, recorded[k])
        nearest = min(fits, key=fits.__getitem__)
        if fits[nearest] < BETTER * gaps[k]:
            best[nearest].append(k)
    # by chance, one of several pictures may look a little more like something else than like what it should show
    told = {how: at for how, at in best.items() if 2 * len(at) > len(apart) or (how == ELSEWHERE and len(at) > 1)}
    numbers = {"difference": round(float(gaps.mean()), 2), "scenes": len(gaps)}
    if told:
        how, at = max(told.items(), key=lambda item: len(item[1]))
        where = f"in {len(at)} of {len(gaps)} scenes ({some([episodes[k] for k in at])})"
        rest = f", and {len(apart) - len(at)} more are not alike" if len(apart) > len(at) else ""
        rule = f"camera {camera!r} shows what the environment shows {how}, {where}{rest}"
        fix = "pair pictures and episodes" if how == ELSEWHERE else "store the pictures as the environment gives them"
        return Finding("error", f"{rule}; {fix}", numbers | {"as": how})
    said = f"camera {camera!r} is {gaps.mean():.1f} grey levels from the environment's pictures of {len(gaps)} scenes"
    if apart and recorded.max() > DARK:  # black ones are told elsewhere
        which = f"{len(apart)} of them ({some([episodes[k] for k in apart])})"
        rule = f"{which} are not alike (above {ALIKE:g}), and turned no nearer"
        fix = "compare camera pose, arguments and rendering, and whether the pictures are of these episodes and moments"
        return Finding("warning", f"{said}; {rule}: {fix}", numbers)
    return Finding("ok", said, numbers)


def _fits(drawn: dict[str, np.ndarray], camera: str, k: int, recorded: np.ndarray) -> dict[str, float]:
    """How far a recorded picture is from what the environment shows of its scene, and of another where that is alike.

    Of its scene: every way up, in each order of colours, from every camera.
    """
    result = {}
    for other, pictures in drawn.items():
        for turn, turned in TURNS.items():
            for colours, ordered in COLOURS.items():
                ways = [f"by camera {other!r}" * (other != camera), turn, colours]
                how = " and ".join(way for way in ways if way not in ("", AS_IT_IS)) or AS_IT_IS
                result[how] = difference(ordered(turned(pictures[k])), recorded)
    elsewhere = min((difference(x, recorded) for j, x in enumerate(drawn[camera]) if j != k), default=np.inf)
    return result | ({ELSEWHERE: elsewhere} if elsewhere < ALIKE else {})
