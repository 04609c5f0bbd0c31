"""Do the cameras show something, does it change while the robot moves, and is each camera the same in all episodes?"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import numpy as np
import torch

from plait.data.images import resize
from plait.diagnose.doctor.case import FIRST, Case
from plait.diagnose.doctor.finding import Finding, skipped, some

DARK, FLAT = 8, 1.0  # brightest pixel of a black picture; contrast (standard deviation) of one of one colour
MOVED = 0.5  # of the state's standard deviation, during which some pixel must change
SHIFTED = 5  # frames: a longer stretch of one picture is no delay
SMALL = (32, 32)  # pixels at which pictures are compared
ROUNDS = 3  # in which the usual picture is found
BETTER = 0.6  # share of the difference that is left when another camera or another way up fits

Turn = Callable[[np.ndarray], np.ndarray]
AS_IT_IS = "as it is"
TURNS: dict[str, Turn] = {  # of square pictures
    AS_IT_IS: lambda image: image,
    "upside down": lambda image: image[..., ::-1, :, :],
    "mirrored": lambda image: image[..., :, ::-1, :],
    "turned by 180 degrees": lambda image: image[..., ::-1, ::-1, :],
    "turned by 90 degrees to the left": lambda image: np.rot90(image, 1, (-3, -2)),
    "turned by 90 degrees to the right": lambda image: np.rot90(image, -1, (-3, -2)),
    "with rows and columns exchanged": lambda image: image.swapaxes(-3, -2),
}
COLOURS: dict[str, Turn] = {
    AS_IT_IS: lambda image: image,
    "with red and blue exchanged": lambda image: image[..., [2, 1, 0]],
    "with red and green exchanged": lambda image: image[..., [1, 0, 2]],
    "with green and blue exchanged": lambda image: image[..., [0, 2, 1]],
}


def films(case: Case) -> Iterator[Finding]:
    """No picture is black, of one colour, frozen, or the same as another camera's."""
    if not case.spec.cameras:
        yield skipped("there are no cameras")
        return
    faults: dict[tuple[str, str], list[int]] = defaultdict(list)  # what is wrong and what to do -> episodes
    looked = 0
    for row, indices, pictures in case.films():
        looked += 1
        for fault in _film_faults(case, indices, pictures):
            faults[fault].append(row.index)
    for (fault, fix), episodes in faults.items():
        where = f"in {len(episodes)} of {looked} episodes that were looked at ({some(episodes)})"
        numbers = {"episodes": len(episodes), "looked": looked}
        yield Finding("error", f"{fault} {where}; {fix}", numbers)


def _film_faults(case: Case, indices: np.ndarray, pictures: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """What is wrong, and what to do."""
    drop = "drop those episodes, or record the camera again"
    for camera, images in pictures.items():
        brightest, contrast = images.max((1, 2, 3)), images.std((1, 2)).mean(1)
        if (brightest <= DARK).any():
            yield f"camera {camera!r} is black", drop
        elif (contrast < FLAT).mean() > 0.5:
            yield f"camera {camera!r} shows one colour", drop
        elif stretch := _frozen(images, _moved(case, indices)):
            count = int(indices[stretch[-1] + 1] - indices[stretch[0]])
            ends = {0: ("first", "late", "later"), len(images) - 2: ("last", "early", "earlier")}
            which = next((ends[step] for step in (stretch[0], stretch[-1]) if step in ends), None)
            if which and count <= SHIFTED:
                end, shifted, more = which
                said = f"camera {camera!r} repeats its {end} picture while the robot moves, as {shifted} pictures do,"
                fix = f"if all are so, pair each state and action with a picture that is {more}"
                yield said, f"{fix}, else drop those frames"
            else:
                yield f"camera {camera!r} is frozen while the robot moves", drop
    for one, other in combinations(pictures, 2):
        if pictures[one].shape == pictures[other].shape and (pictures[one] == pictures[other]).all():
            yield f"cameras {one!r} and {other!r} show the same pictures", drop


def _frozen(images: np.ndarray, moved: np.ndarray) -> range | None:
    """The steps of the first stretch over which pictures stay the same although the robot moves; None without one.

    ``moved`` ``[n - 1]`` is of each step.
    """
    same = (images[1:] == images[:-1]).all((1, 2, 3))
    changes = [-1, *np.flatnonzero(~same).tolist(), len(same)]
    stretches = [range(before + 1, after) for before, after in pairwise(changes)]
    return next((each for each in stretches if moved[each.start : each.stop].sum() > MOVED), None)


def _moved(case: Case, indices: np.ndarray) -> np.ndarray:
    """``[n - 1]``: by how much the hand (or the whole state, or the action) moves, in standard deviations."""
    values = case.state[:, list(case.spec.position or range(len(case.spec.state)))] if case.spec.state else case.action
    wide = values[case.finite].std(0)
    steps = np.abs(np.diff(values[indices], axis=0)) / np.where(wide > 1e-9, wide, np.inf)
    return steps.max(1, initial=0)


def consistent(case: Case) -> Iterator[Finding]:
    """Each episode's first picture looks more like the others' as it is than turned, recoloured or swapped."""
    rows = case.sample(FIRST)
    if len(rows) < 5 or not case.spec.cameras:
        yield skipped(
            f"{len(rows)} episodes, {len(case.spec.cameras)} cameras: too few to compare their first pictures"
        )
        return
    first = {c: small(case.pictures(c, [row.start for row in rows])) for c in case.spec.cameras}
    for (camera, way), places in _odd(first).items():
        where = f"in {len(places)} of {len(rows)} episodes ({some([rows[k].index for k in places])})"
        rule = f"camera {camera!r} {where} fits the other episodes {way}"
        yield Finding("error", f"{rule}; put those episodes right", {"episodes": len(places), "of": len(rows)})


def _odd(first: dict[str, np.ndarray]) -> dict[tuple[str, str], list[int]]:
    """(camera, in which other way it fits the rest) -> places of the pictures of which that holds.

    The usual picture of a camera is the median of all, each in the way in which it fits; that is found step by step,
    from the episode that is most like the others: the median of a mixture of two ways would be like neither.
    """
    everything = np.concatenate([images.reshape(len(images), -1) for images in first.values()], axis=1)
    typical = int(np.argmin([np.abs(everything - each).mean() for each in everything]))
    usual = {camera: images[typical] for camera, images in first.items()}
    odd: dict[tuple[str, str], list[int]] = {}
    for _ in range(ROUNDS):
        odd, aligned = defaultdict(list), {camera: images.copy() for camera, images in first.items()}
        for camera, images in first.items():
            for k, image in enumerate(images):
                way, other, picture = _way(image, camera, usual)
                aligned[other][k] = picture
                if way != AS_IT_IS:
                    odd[camera, way].append(k)
        usual = {camera: np.median(images, axis=0) for camera, images in aligned.items()}
    return odd


def _way(image: np.ndarray, camera: str, usual: dict[str, np.ndarray]) -> tuple[str, str, np.ndarray]:
    """How a picture fits clearly better than as it is, as which camera's, and the picture put right."""
    ways = [(AS_IT_IS, camera, image)]
    ways += [("turned or mirrored", camera, turn(image)) for how, turn in TURNS.items() if how != AS_IT_IS]
    ways += [(how, camera, ordered(image)) for how, ordered in COLOURS.items() if how != AS_IT_IS]
    ways += [(f"as camera {other!r}", other, image) for other in usual if other != camera]
    gaps = [difference(picture, usual[other]) for _, other, picture in ways]
    best = int(np.argmin(gaps))
    return ways[best if gaps[best] < BETTER * gaps[0] and gaps[0] > DARK else 0]


def small(images: np.ndarray) -> np.ndarray:
    """float ``[n, 32, 32, 3]`` of uint8 pictures of any size."""
    return resize(torch.from_numpy(np.ascontiguousarray(images)), SMALL).numpy().astype(np.float32)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean over all pixels, in grey levels of 0 to 255."""
    return float(np.abs(one - other).mean())
