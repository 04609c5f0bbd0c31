"""``plait record``: demonstrations of a scripted expert."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from plait.cli.parse import Verb, folder, pairs


@dataclass(frozen=True)
class Record(Verb):
    """Record demonstrations of a scripted expert as a LeRobotDataset; the same command continues."""

    kept = "every episode that was finished is safe, and the same command continues"

    env: Positional[str]
    """An environment with an expert: tabletop or metaworld."""
    episodes: int
    """How many successful episodes the dataset shall hold."""
    out: str
    """The dataset's folder."""
    env_args: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the environment, such as family=pick combinations=seen."""
    workers: int | None = None
    """Processes that simulate; one per processor when left out. The dataset does not depend on it."""
    seed: int = 0
    """Of the scenes; evaluation uses others, whatever the seed."""
    pushes: float = 0.0
    """How strongly the arm is pushed off its way now and then, in action units; the expert brings it back."""
    slips: float = 0.0
    """Chance in each step that the gripper opens for a moment while the expert closes it; the expert grasps again."""
    longest: int | None = None
    """Steps until success; the scene is tried again where it takes more."""
    tries: int = 1
    """Of the expert in each scene, with other mishaps each time: the first success is recorded, unless a later one
    takes less than half of its steps."""
    dwell: int = 0
    """Steps that each demonstration goes on after success, so that it shows where to stop."""
    images: Literal["auto", "png", "video"] = "auto"
    """How images are stored; auto = PNG up to 96 pixels and for odd sizes, video above."""
    cache: bool = False
    """Keep the pixels for training as well, which then decodes nothing; takes 3 bytes a pixel and needs PNG."""

    def run(self) -> None:
        from plait.processes import processors
        from plait.record.demonstration import DemonstrationConfig
        from plait.record.recorder import record

        workers = processors() if self.workers is None else self.workers
        env_args = pairs(self.env_args, "--env-args")
        out = folder(self.out, "--out")
        how = DemonstrationConfig.of(vars(self))
        made = record(self.env, out, self.episodes, env_args, workers, self.seed, how, self.images, self.cache)
        print(made)
