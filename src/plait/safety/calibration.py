"""What is known of clean data: ranges of state and actions, the words, and how far fused features usually are.

The score is the squared Mahalanobis distance of the pooled fused features from those of clean data (Lee et al., 2018,
https://arxiv.org/abs/1807.03888, with one class), with its own mean and covariance for each pattern of present
modalities: features without a camera are elsewhere, and are to be as usual for that.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from plait.config import from_dict, to_dict
from plait.files import read_json, write_whole
from plait.safety.bounds import Seen
from plait.safety.health import Known

if TYPE_CHECKING:
    from plait.policy import Policy

FILE, SCORES = "safety.json", "safety.safetensors"  # beside the checkpoint's other files
SHRINKAGE = 0.01  # of the covariance towards a multiple of the identity, so that it can be inverted


@dataclass(frozen=True)
class Score:
    """How unusual features are, where one pattern of modalities is present.

    Attributes:
        mean: ``[d]``.
        whiten: ``[d, d]``; the squared length of ``(features - mean) @ whiten`` is the distance.
        threshold: above it, they are out of distribution.
    """

    mean: NDArray[np.float32]
    whiten: NDArray[np.float32]
    threshold: float

    @classmethod
    def fit(cls, features: NDArray[np.floating], threshold: float = np.inf) -> "Score":
        """Of clean features ``[n, d]``."""
        mean = features.mean(axis=0, dtype=np.float64)
        covariance = np.atleast_2d(np.cov(features, rowvar=False))
        size = max(float(np.trace(covariance)) / len(covariance), 1e-12)
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * np.eye(len(covariance))
        whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(mean.astype(np.float32), whiten.astype(np.float32), threshold)

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """``[...]`` of ``[..., d]``."""
        away = (np.asarray(features, np.float32) - self.mean) @ self.whiten
        return np.asarray((away**2).sum(axis=-1))


@dataclass(frozen=True)
class Calibration:
    """What an envelope goes by. Everything that is missing is not checked.

    Attributes:
        known, seen: of inputs and of outputs.
        scores: by ``pattern``.
        droppable: the policy was trained with modalities absent, and may go on without one.
        report: how it came to be, and the share of clean episodes with an alarm.
    """

    known: Known = field(default_factory=Known)
    seen: Seen = field(default_factory=Seen)
    scores: dict[str, Score] = field(default_factory=dict)
    droppable: bool = True
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: "Policy", provenance: dict[str, Any] | None = None) -> "Calibration":
        """What a checkpoint knows without its data: the words, and whether it was trained to do without a modality.

        Args:
            provenance: of the checkpoint; without it, the policy counts as not trained so.
        """
        dropout = (provenance or {}).get("train", {}).get("modality_dropout", 0.0)
        return cls(Known(tokenizer=policy.tokenizer), droppable=dropout > 0)

    @classmethod
    def find(cls, path: Path | str, policy: "Policy") -> "Calibration":
        """Of a checkpoint, or the newest one of a run: ``load`` where there is a file, else ``of``."""
        from plait import checkpoint

        folder = checkpoint.find(path)
        if (folder / FILE).is_file():
            return cls.load(folder, policy)
        return cls.of(policy, checkpoint.provenance(folder))

    @classmethod
    def load(cls, folder: Path | str, policy: "Policy") -> "Calibration":
        """As ``save`` wrote it into the checkpoint's folder.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise ValueError(f"{folder}: no {FILE}; the policy was not calibrated, see plait.safety.calibrate")
        told = read_json(folder / FILE)
        try:
            arrays = load_file(folder / SCORES)
            scores = {
                pattern: Score(arrays[f"{pattern}.mean"], arrays[f"{pattern}.whiten"], float(threshold))
                for pattern, threshold in told["thresholds"].items()
            }
            low, high = (None if bound is None else tuple(bound) for bound in told["state"])
            known = Known(low, high, policy.tokenizer, told["grain"])
            return cls(known, from_dict(Seen, told["actions"]), scores, bool(told["droppable"]), told["report"])
        except (KeyError, TypeError, OSError, SafetensorError) as error:
            raise ValueError(f"{folder}: {FILE} or {SCORES} is damaged ({error!r}); calibrate again") from error

    def save(self, folder: Path | str) -> Path:
        """Write it beside the checkpoint's other files: JSON for people, and the arrays."""
        folder = Path(folder)
        told = {
            "report": self.report,
            "droppable": self.droppable,
            "state": [self.known.state_low, self.known.state_high],
            "grain": self.known.grain,
            "actions": to_dict(self.seen),
            "thresholds": {pattern: score.threshold for pattern, score in self.scores.items()},
        }
        arrays = {f"{name}.mean": score.mean for name, score in self.scores.items()}
        arrays |= {f"{name}.whiten": score.whiten for name, score in self.scores.items()}
        save_file(arrays, folder / SCORES)
        write_whole(folder / FILE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        return folder / FILE

    def score(self, features: NDArray[np.floating], present: Iterable[str]) -> tuple[float, float] | None:
        """The distance of features ``[d]`` and its threshold; None where there is none for what is present."""
        if (score := self.scores.get(pattern(present))) is None:
            return None
        return float(score.distance(features)), score.threshold


def carry_over(before: Path, after: Path) -> None:
    """From a checkpoint to one with other weights of the same run: the ranges stay, which are those of the
    data; scores are of the weights, and have to be learned again. Nothing happens where ``before`` has no
    calibration, or its file is damaged.
    """
    with suppress(OSError, ValueError):  # no training ends for that
        told = json.dumps({**read_json(before / FILE), "thresholds": {}}, indent=1, ensure_ascii=False)
        save_file({}, after / SCORES)
        write_whole(after / FILE, told + "\n")


def pattern(present: Iterable[str]) -> str:
    """The name of a set of present modalities."""
    return "+".join(sorted(present))
