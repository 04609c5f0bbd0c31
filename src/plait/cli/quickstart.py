"""``plait quickstart``: from nothing to a policy that obeys."""

from dataclasses import dataclass

from plait.cli.parse import Verb, folder


@dataclass(frozen=True)
class Quickstart(Verb):
    """Record the built-in tabletop task, train a policy and diagnose it, all on this machine; leaves a report."""

    kept = "what is finished stays, and the same command continues"

    out: str = "quickstart"
    """Folder for the dataset, the run, the diagnosis and report.html."""
    episodes: int = 1500
    """Demonstrations to record."""
    steps: int | None = None
    """Of training; the recipe's number when left out."""
    scenes: int = 200
    """Of the evaluations on which the verdicts rest."""
    contrast: int = 50
    """Scenes of those for contrast: no instruction, words shuffled, a paraphrase, unseen combinations."""
    seed: int = 0
    """Of the demonstrations, the training and the scenes."""
    workers: int | None = None
    """Processes that simulate; one per processor when left out."""
    fresh: bool = False
    """Delete what an earlier call left, and start over."""

    def run(self) -> None:
        from plait.quickstart.chain import quickstart

        quickstart(
            folder(self.out, "--out"),
            episodes=self.episodes,
            steps=self.steps,
            scenes=self.scenes,
            contrast=self.contrast,
            seed=self.seed,
            workers=self.workers,
            fresh=self.fresh,
        )
