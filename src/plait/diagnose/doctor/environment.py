"""Does the dataset fit the environment and the policy: names, conventions, and the pictures of the same scene?"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from plait.data.keys import IMAGE_PREFIX
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.finding import Finding, skipped, some
from plait.diagnose.doctor.pictures import BETTER, DARK, TURNS, difference, small
from plait.spec import Spec

ALIKE, OTHER = 3.0, 25.0  # grey levels: pictures of one scene; pictures of something else
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
    recorded = small(case.pictures(camera, [scene.row.start for scene, _, _ in case.starts]))
    drawn = {c: small(np.stack([seen[IMAGE_PREFIX + c] for _, seen, _ in case.starts])) for c in (camera, *others)}
    best: dict[str, list[int]] = defaultdict(list)  # how it fits -> episodes
    gaps = []
    for k, (scene, _, _) in enumerate(case.starts):
        fits = {how: difference(picture, recorded[k]) for how, picture in _variants(drawn, camera, k).items()}
        gap = fits["as it is"]
        gaps.append(gap)
        nearest = min(fits, key=fits.__getitem__)
        if gap > ALIKE and fits[nearest] < BETTER * gap:
            best[nearest].append(scene.row.index)
    numbers = {"difference": round(float(np.mean(gaps)), 2), "scenes": len(gaps)}
    if best:
        how, episodes = max(best.items(), key=lambda item: len(item[1]))
        where = f"in {len(episodes)} of {len(gaps)} scenes ({some(episodes)})"
        rule = f"camera {camera!r} shows what the environment shows {how}, {where}"
        return Finding("error", f"{rule}; store the pictures as the environment gives them", numbers | {"as": how})
    said = f"camera {camera!r} is {np.mean(gaps):.1f} grey levels from the environment's pictures of {len(gaps)} scenes"
    if np.mean(gaps) > OTHER and recorded.max() > DARK:  # black ones are told elsewhere
        fix = "compare camera pose, arguments and rendering"
        return Finding("warning", f"{said} (same pictures: below {ALIKE:g}), and turned no nearer; {fix}", numbers)
    return Finding("ok", said, numbers)


def _variants(drawn: dict[str, np.ndarray], camera: str, k: int) -> dict[str, np.ndarray]:
    """What the environment shows of a scene, every way up, in both orders of colour, from every camera."""
    result = {}
    for other, pictures in drawn.items():
        for turn, turned in TURNS.items():
            for colours, order in (("", 1), ("with red and blue exchanged", -1)):
                ways = [f"by camera {other!r}" * (other != camera), turn * (turn != "as it is"), colours]
                result[" and ".join(filter(None, ways)) or "as it is"] = turned(pictures[k])[..., ::order]
    return result
