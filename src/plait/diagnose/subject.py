"""What is examined, and what each question about it finds.

A question is one file with one function, ``ask(subject) -> Answer``; ``report`` joins them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from plait.evaluate.rollout import evaluate
from plait.policy import Policy

FILMS = 4  # half of them failures, if there are so many
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
    """

    question: str
    verdict: str
    tone: Tone
    numbers: dict[str, Any]
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A policy and where it is examined.

    Attributes:
        policy: on the device it shall run on.
        env, env_args: as of ``evaluate``.
        checkpoint: the checkpoint's fingerprint.
        run: the folder of its training, whose log is read; None where there is none.
        episodes: of each evaluation.
        seed: chooses the scenes.
        workers: processes that simulate; one per processor when None.
        dataset: what it was trained on, for the question whether the data is the cause; None: not examined.
        folder: where the evaluation of the scenes as they are is kept, with its films; None: nowhere, unfilmed.
    """

    policy: Policy
    env: str
    env_args: dict[str, Any]
    checkpoint: str | None = None
    run: Path | None = None
    episodes: int = 100
    seed: int = 0
    workers: int | None = None
    dataset: Path | None = None
    folder: Path | None = None
    _done: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def normal(self) -> dict[str, Any]:
        """``eval.json`` of the subject's scenes as they are."""
        filmed = {"out": self.folder, "videos": FILMS, "video_format": "webp"} if self.folder else {}
        return self.evaluate("new scenes", **filmed)

    def evaluate(self, title: str, env_args: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """``eval.json`` of the subject's scenes with some arguments of ``evaluate`` changed; each is run once.

        Raises:
            KeyboardInterrupt: interrupted before all episodes were finished.
        """
        key = json.dumps([env_args, changes], sort_keys=True, default=repr)
        if key not in self._done:
            given = {"episodes": self.episodes, "seed": self.seed, "workers": self.workers, **changes}
            arguments = self.env_args | (env_args or {})
            found = evaluate(self.policy, self.env, arguments, checkpoint=self.checkpoint, title=title, **given)
            if found["partial"] or found["unfilmed"]:
                raise KeyboardInterrupt
            self._done[key] = found
        return self._done[key]
