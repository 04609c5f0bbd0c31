"""Learn from clean demonstrations what is usual, and how often an envelope that goes by it raises a false alarm."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import ceil, comb
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from plait.data.frames import VideoFrames
from plait.data.lerobot import Dataset
from plait.data.loader import held_out
from plait.data.tables import EpisodeRow
from plait.nn.pooling import masked_mean
from plait.policy import Policy
from plait.safety.bounds import Seen
from plait.safety.calibration import Calibration, Score, pattern
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.health import Known, few, grain
from plait.safety.modes import Mode
from plait.spec import INSTRUCTION, Spec, is_camera
from plait.types import Inputs, Observation

MISSING = 2  # modalities that may be absent together in a pattern with a score
FRAMES = 256  # in one batch
SURE = 0.9  # how sure it is, over calibrations, that false alarms are no more than asked for
PICTURES = 1_000  # of each camera whose grain is measured, about


Features = dict[str, NDArray[np.float32]]  # of one episode: pattern of present modalities -> [moments, d]
T = TypeVar("T")


def calibrate(
    policy: Policy,
    dataset: Dataset | Path | str,
    false_alarms: float = 0.01,
    provenance: dict[str, Any] | None = None,
    episodes: int = 600,
    config: SafetyConfig | None = None,
    seed: int = 0,
    driven: Sequence[Features] | None = None,
) -> Calibration:
    """Ranges of state and action, and a score for each pattern of present modalities.

    A quarter of the episodes gives mean and covariance; half the threshold, which is such that a new episode has any
    score above it with a probability of at most ``false_alarms`` (split conformal prediction, on the episodes' largest
    scores); the rest tells how often there is an alarm all the same (``report``: ``alarms``, of the envelope with
    everything present, and ``alarms_by_pattern``, of each score alone). That is the probability over thresholds, too:
    one that was set by few episodes may be far off, since the largest scores lie far apart. So it is set ``SURE``
    enough, or by the largest score where the episodes do not suffice for that.

    Args:
        dataset: clean demonstrations, such as those of the training.
        false_alarms: share of the clean episodes that may have an alarm.
        provenance: of the checkpoint: which episodes were held out, and whether it can do without a modality.
        episodes: how many demonstrations are used at most.
        config: of the envelope whose false alarms are counted; the usual one when omitted.
        driven: features of clean episodes that the policy has driven itself (``evaluate.driven``). Scores are learned
            from these instead of from the demonstrations; the alarms are then those of the scores alone.

    Raises:
        ValueError: a share that is none, too few episodes for it, or a dataset that does not fit the policy.
    """
    check_share(false_alarms)
    data = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    if differences := policy.spec.differences(data.spec, "the policy", "the dataset"):
        raise ValueError(f"this policy does not fit dataset {data.path}: {'; '.join(differences)}")
    clean = usual(policy, data, provenance)
    policy.eval()
    rows: dict[str, list[EpisodeRow]] = {}
    if driven is None:
        rows = _parts(data, (provenance or {}).get("train", {}), false_alarms, episodes, seed)
        parts = {name: _features(policy, data, some) for name, some in rows.items()}
    else:
        order = np.random.default_rng(seed).permutation(len(driven))
        parts = _split([driven[i] for i in order], false_alarms, "rollouts")
    calibration = replace(clean, scores=_scores(parts["fit"], parts["threshold"], false_alarms))
    strange = {
        name: [_strange(episode, name, score) for episode in parts["verify"]]
        for name, score in calibration.scores.items()
    }
    if driven is None:
        alarms = [_alarm(policy, data, row, calibration, config or SafetyConfig()) for row in rows["verify"]]
    else:
        alarms = strange[pattern(policy.spec.modalities)]
    report = {
        "false_alarms": false_alarms,
        "from": "demonstrations" if driven is None else "rollouts",
        "episodes": {name: len(some) for name, some in (rows or parts).items()},
        "alarms": sum(map(bool, alarms)),
        "alarms_by_pattern": {name: sum(map(bool, each)) for name, each in strange.items()},
        "reasons": sorted({reason for reasons in alarms for reason in reasons})[:10],
        "dataset": data.content(),
    }
    return replace(calibration, report=report)


def usual(policy: Policy, data: Dataset, provenance: dict[str, Any] | None = None, videos: bool = True) -> Calibration:
    """What the data alone tell, whatever the weights are: everything but the scores.

    Args:
        provenance: of the checkpoint, as in ``calibrate``.
        videos: measure the grain of cameras that are stored as video, too; to look for frames all over them takes long.

    Raises:
        ValueError: a picture is missing or broken.
    """
    known, seen = _ranges(data)
    known = replace(known, tokenizer=policy.tokenizer, grain=_grain(data, videos))
    return Calibration(known, seen, {}, Calibration.of(policy, provenance).droppable)


def pooled(policy: Policy, inputs: Inputs) -> NDArray[np.float32]:
    """The fused features of each moment, averaged over their tokens: ``[b, d]``."""
    with torch.inference_mode():
        return masked_mean(policy.fuse(inputs.to(policy.device)).tokens).float().cpu().numpy()


def patterns(spec: Spec) -> Iterator[tuple[str, ...]]:
    """Sets of modalities with which a policy can act: up to ``MISSING`` are absent, never the words nor all cameras."""
    rest = [modality for modality in spec.modalities if modality != INSTRUCTION]
    for missing in range(MISSING + 1):
        for absent in combinations(rest, missing):
            present = tuple(modality for modality in spec.modalities if modality not in absent)
            if not spec.cameras or any(map(is_camera, present)):
                yield present


def featured(policy: Policy, inputs: Inputs) -> Features:
    """``pooled`` for every pattern, whatever is present."""
    absent = lambda present: {name: flag & (name in present) for name, flag in inputs.present.items()}  # noqa: E731
    return {
        pattern(present): pooled(policy, replace(inputs, present=absent(present))) for present in patterns(policy.spec)
    }


def _parts(
    data: Dataset, train: dict[str, Any], false_alarms: float, count: int, seed: int
) -> dict[str, list[EpisodeRow]]:
    """The demonstrations for each purpose; those that the training held out are for verifying."""
    unseen = held_out(len(data.episodes), float(train.get("val_fraction", 0.0))).tolist()
    rest = np.random.default_rng(seed).permutation([i for i in range(len(data.episodes)) if i not in unseen])[:count]
    parts = _split([data.episodes[i] for i in rest], false_alarms, f"episodes of {data.path}")
    return {**parts, "verify": [*parts["verify"], *(data.episodes[i] for i in unseen)]}


def check_share(false_alarms: float, episodes: int | None = None, what: str = "episodes") -> None:
    """Whether that many ``episodes`` can tell the share.

    Raises:
        ValueError: it is no share, or they are too few for it.
    """
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms: {false_alarms} is no share; it must be above 0 and below 1")
    needed = ceil(1 / false_alarms) - 1
    if episodes is not None and (half := episodes // 2) < needed:
        way = f"give {2 * needed}, or a share of at least {1 / (half + 1):.2g}"
        raise ValueError(f"false_alarms: {false_alarms} cannot be told from {episodes} {what}; {way}")


def _split(episodes: Sequence[T], false_alarms: float, what: str) -> dict[str, list[T]]:
    check_share(false_alarms, len(episodes), what)
    half, quarter = len(episodes) // 2, len(episodes) // 4
    ends = quarter, quarter + half
    return {"fit": [*episodes[: ends[0]]], "threshold": [*episodes[slice(*ends)]], "verify": [*episodes[ends[1] :]]}


def _ranges(data: Dataset) -> tuple[Known, Seen]:
    """Of states and actions, and the largest change between two actions of an episode."""
    ends = lambda column: (tuple(column.amin(dim=0).tolist()), tuple(column.amax(dim=0).tolist()))  # noqa: E731
    known = Known() if data.state is None else Known(*ends(data.state))
    together = data.episode_index[1:] == data.episode_index[:-1]
    change = (data.action[1:] - data.action[:-1]).abs()[together].amax(dim=0) if together.any() else None
    return known, Seen(*ends(data.action), None if change is None else tuple(change.tolist()))


def _grain(data: Dataset, videos: bool) -> dict[str, float]:
    """The largest of each camera."""
    cameras = [name for name in data.spec.cameras if videos or not isinstance(data.frames[name], VideoFrames)]
    frames = np.arange(0, len(data), max(1, len(data) // PICTURES))
    pictures = lambda camera: data.images(camera, frames).numpy()  # noqa: E731
    return {camera: max(grain(few(picture)) for picture in pictures(camera)) for camera in cameras}


def _scores(fit: list[Features], fresh: list[Features], false_alarms: float) -> dict[str, Score]:
    place, found = _place(len(fresh), false_alarms), {}
    for name in fit[0]:
        score = Score.fit(np.concatenate([episode[name] for episode in fit]))
        worst = sorted(float(score.distance(episode[name]).max()) for episode in fresh)
        found[name] = replace(score, threshold=worst[place])
    return found


def _place(count: int, false_alarms: float) -> int:
    """Which of ``count`` largest scores, in rising order, is the threshold: the lowest that new episodes pass with a
    probability above ``false_alarms`` in at most one of ``1 / (1 - SURE)`` calibrations; else the last one.

    The probability that a new episode is above the j-th from the top is Beta(j, count + 1 - j), and above the share as
    often as fewer than j of ``count`` episodes are in the share at the top.
    """
    above, at_risk = 0.0, 0  # chance of at most so many in that share
    while at_risk < count:
        above += comb(count, at_risk) * false_alarms**at_risk * (1 - false_alarms) ** (count - at_risk)
        if above > 1 - SURE:
            break
        at_risk += 1
    return count - max(1, at_risk)


def _features(policy: Policy, data: Dataset, rows: Sequence[EpisodeRow]) -> list[Features]:
    """Of each episode, at all of its moments."""
    found: list[Features] = []
    for some in _batches(rows):
        frames = np.concatenate([np.arange(row.start, row.start + row.length) for row in some])
        seen, ends = featured(policy, policy.prepare(_observation(data, frames))), np.cumsum([r.length for r in some])
        for row, end in zip(some, ends, strict=True):
            found.append({name: features[end - row.length : end] for name, features in seen.items()})
    return found


def _batches(rows: Sequence[EpisodeRow]) -> Iterator[list[EpisodeRow]]:
    """Whole episodes, about ``FRAMES`` frames together."""
    batch: list[EpisodeRow] = []
    for row in rows:
        batch.append(row)
        if sum(each.length for each in batch) >= FRAMES:
            yield batch
            batch = []
    if batch:
        yield batch


def _observation(data: Dataset, frames: NDArray[np.int64]) -> Observation:
    images = {camera: data.images(camera, frames).numpy() for camera in data.spec.cameras}
    words = [data.tasks[task] for task in data.task_index[frames].tolist()]
    return Observation(images, None if data.state is None else data.state[frames].numpy(), words)


def _alarm(
    policy: Policy, data: Dataset, row: EpisodeRow, calibration: Calibration, config: SafetyConfig
) -> tuple[str, ...]:
    """Why an envelope that sees this episode is not nominal all the time; () if it is."""
    envelope, rate = Envelope(policy.spec, config, calibration), policy.spec.rate or data.spec.rate or 1.0
    frames = np.arange(row.start, row.start + row.length)
    whole = _observation(data, frames)
    features = pooled(policy, policy.prepare(whole))
    for tick in range(row.length):
        images = {camera: pictures[tick : tick + 1] for camera, pictures in whole.images.items()}
        state = None if whole.state is None else whole.state[tick : tick + 1]
        envelope.judge(Observation(images, state, whole.instruction[tick : tick + 1]), tick / rate)
        envelope.notice(features[tick], policy.spec.modalities)  # they were computed with everything
        if envelope.mode is not Mode.NOMINAL:
            return envelope.reasons
    return ()


def _strange(episode: Features, name: str, score: Score) -> tuple[str, ...]:
    """The reason of an alarm by the score of this pattern; () if there is none."""
    worst = float(score.distance(episode[name]).max())
    return (
        () if worst <= score.threshold else (f"features out of distribution, {worst:.1f} above {score.threshold:.1f}",)
    )
