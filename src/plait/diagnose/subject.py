"""What is examined, and what each question about it finds.

A question is one file with one function, ``ask(subject) -> Answer``; ``report`` joins them.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from plait.data.lerobot import Dataset
from plait.evaluate.pool import Workers
from plait.evaluate.rollout import evaluate
from plait.policy import Policy

FILMS, EVALUATIONS = 4, "eval"  # half of the films are failures, if there are so many
Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True)
class Answer:
    """To one question.

    Attributes:
        question: as a person asks it, ``"Does it listen?"``.
        verdict: one or two plain sentences with the number that they rest on.
        tone: whether that is good or bad news; plain where it is neither.
        numbers: all of them, as JSON can hold them.
        parts: what stands under the verdict: HTML from ``page``'s functions.
        seconds: that it took to find.
    """

    question: str
    verdict: str
    tone: Tone
    numbers: dict[str, Any]
    parts: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Subject:
    """A policy and where it is examined.

    Attributes:
        policy: on the device it shall run on.
        env, env_args: as of ``evaluate``.
        checkpoint: the checkpoint's fingerprint.
        run: the folder of its training, whose log is read; None where there is none.
        episodes: of each evaluation.
        contrast: episodes of those that others are held against: no words, shuffled, paraphrased, unseen combinations;
            as many as of the others when None.
        seed: chooses the scenes.
        workers: processes that simulate; one per processor when None.
        dataset: what it was trained on, for the question whether the data is the cause; None: not examined.
        folder: of the report, which keeps every evaluation in ``eval/<name>``, with films; None: nowhere, unfilmed.
    """

    policy: Policy
    env: str
    env_args: dict[str, Any]
    checkpoint: str | None = None
    run: Path | None = None
    episodes: int = 100
    contrast: int | None = None
    seed: int = 0
    workers: Workers | int | None = None
    dataset: Path | None = None
    folder: Path | None = None
    _done: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def demonstrations(self) -> Dataset:
        """``dataset``, opened whatever is wrong in it, and read once.

        Raises:
            ValueError: there is none, or it cannot be read.
        """
        if self.dataset is None:
            raise ValueError("question 'data': no dataset is named; say --dataset DATASET, the one it was trained on")
        return Dataset.read(self.dataset)

    def normal(self) -> dict[str, Any]:
        """``eval.json`` of the subject's scenes as they are."""
        return self.evaluate("normal", "new scenes", videos=FILMS)

    def evaluate(
        self,
        name: str,
        title: str = "",
        env_args: dict[str, Any] | None = None,
        *,
        contrast: bool = False,
        videos: int = 0,
        **changes: Any,
    ) -> dict[str, Any]:
        """``eval.json`` of the subject's scenes with some arguments of ``evaluate`` changed; each is run once.

        Args:
            name: of its folder; ``title``: of its progress bar.
            env_args: beside the subject's, or in their place.
            contrast: as many episodes as the subject has for contrast.
            videos: films, where evaluations are kept.

        Raises:
            KeyboardInterrupt: interrupted before all episodes were finished.
        """
        episodes = self.contrast if contrast and self.contrast else self.episodes
        asked = {"episodes": episodes, "env_args": self.env_args | (env_args or {}), **changes}
        key = json.dumps(asked, sort_keys=True, default=repr)
        if key not in self._done:
            given = {"seed": self.seed, "workers": self.workers, "checkpoint": self.checkpoint, "title": title or name}
            if self.folder is not None:
                given |= {"out": self.folder / EVALUATIONS / name, "videos": videos, "video_format": "webp"}
            found = evaluate(self.policy, self.env, **asked, **given)
            if found["partial"] or found["unfilmed"]:
                raise KeyboardInterrupt
            self._done[key] = found
        return self._done[key]
