"""``plait diagnose``: what does a policy see, and does it listen?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from plait.cli.environment import environment
from plait.cli.parse import Verb, folder


@dataclass(frozen=True)
class Diagnose(Verb):
    """Examine a policy: does it work, does it listen, what does it use, where does it look? Leaves report.html."""

    kept = "what is answered stays in the report, and the same command goes on"

    checkpoint: Positional[str]
    """A checkpoint, or the folder of a run (its newest checkpoint is taken)."""
    out: str
    """Folder for report.html and diagnose.json."""
    env: str | None = None
    """tabletop, metaworld, or a gymnasium id; left out, the one that the training data was recorded in."""
    env_args: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the environment, such as family=pick."""
    questions: Annotated[tuple[str, ...], arg(metavar="QUESTION ...")] = ()
    """Some of works, listens, modalities, attention, embeddings, costs and data; all of them when left out."""
    dataset: str | None = None
    """The one that it was trained on, for the question whether the data could be the cause."""
    episodes: int | None = None
    """Of each evaluation; 100 when left out, 50 with --fast."""
    fast: bool = False
    """Ask works, listens, attention and costs with few episodes."""
    seed: int = 0
    """Chooses the scenes; training never sees any of them."""
    workers: int | None = None
    """Processes that simulate; one per processor when left out."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto = cuda when there is one."""

    def run(self) -> None:
        from plait import checkpoint
        from plait.config import refuse_small
        from plait.diagnose.report import FAST, FEW, PAGE, QUESTIONS, diagnose
        from plait.diagnose.subject import Subject
        from plait.nn.device import pick_device

        refuse_small(episodes=(self.episodes, 2), seed=(self.seed, 0), workers=(self.workers, 1))
        found, out = checkpoint.find(self.checkpoint), folder(self.out, "--out")
        env, env_args = environment(self.checkpoint, self.env, self.env_args)
        subject = Subject(
            checkpoint.load(found).to(pick_device(self.device)),
            env,
            env_args,
            checkpoint=checkpoint.fingerprint(found),
            run=found.parent.parent if found.parent.name == checkpoint.CHECKPOINTS else None,
            episodes=self.episodes or (FEW if self.fast else Subject.episodes),
            seed=self.seed,
            workers=self.workers,
            dataset=None if self.dataset is None else Path(self.dataset),
        )
        everything = [name for name in QUESTIONS if name != "data" or self.dataset is not None]
        asked = self.questions or (FAST if self.fast else everything)
        for _, answer in diagnose(subject, out, asked):
            print(f"{answer.question}  {answer.verdict}", flush=True)
        print(f"the page: {out / PAGE}")
