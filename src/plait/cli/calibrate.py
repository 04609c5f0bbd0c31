"""``plait calibrate``: what is usual for a policy, so that the safety envelope can tell what is not."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from plait.cli.environment import environment
from plait.cli.parse import Verb

if TYPE_CHECKING:
    from plait.safety.calibration import Calibration


@dataclass(frozen=True)
class Calibrate(Verb):
    """Show the safety envelope of a policy clean data: which states, pictures, actions and features are usual."""

    kept = "nothing was written"

    checkpoint: Positional[str]
    """A checkpoint, or the folder of a run (its newest checkpoint is taken). What is learned is kept in it, as
    safety.json and safety.safetensors, where plait serve and plait eval --failures find it."""
    dataset: Positional[str]
    """Clean demonstrations, such as those of the training; with the default share, at least 198."""
    false_alarms: float = 0.01
    """Share of the clean episodes that may have an alarm."""
    rollouts: int = 0
    """Clean episodes that the policy drives itself, from which the envelope learns which features are usual; at least
    198 with the default share, better 800. 0 = from the demonstrations."""
    env: str | None = None
    """For --rollouts: tabletop, metaworld, or a gymnasium id; left out, the one that the training data was recorded
    in."""
    env_args: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """For --rollouts: arguments of the environment, such as family=pick."""
    workers: int | None = None
    """For --rollouts: processes that simulate; one per processor when left out."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto = cuda when there is one."""

    def run(self) -> None:
        from plait import checkpoint
        from plait.data.lerobot import Dataset
        from plait.evaluate.driven import driven_features
        from plait.nn.device import pick_device
        from plait.safety.calibrate import calibrate, check_share

        if not self.rollouts and (self.env is not None or self.env_args):
            raise ValueError("calibrate: --env and --env-args are for --rollouts; add it, such as --rollouts 400.")
        check_share(self.false_alarms, self.rollouts or None, "rollouts")  # before anything is driven
        found, data, driven = checkpoint.find(self.checkpoint), Dataset.open(self.dataset), None
        policy = checkpoint.load(found).to(pick_device(self.device))
        if self.rollouts:
            env, env_args = environment(self.checkpoint, self.env, self.env_args)
            driven = driven_features(policy, env, env_args, self.rollouts, self.workers)
        calibration = calibrate(policy, data, self.false_alarms, checkpoint.provenance(found), driven=driven)
        report = calibration.report
        print(f"{report['alarms']} of {report['episodes']['verify']} further {report['from']} had an alarm")
        if not self.rollouts:
            print("in closed loop, expect more false alarms; with --rollouts 800, about the share that is asked for")
        print(f"kept in {calibration.save(found)}")


def missing(checkpoint: Path | str, calibration: "Calibration") -> str | None:
    """What an envelope that knows nothing, or its data alone, lets pass; None where it has scores for these weights."""
    if calibration.scores:
        return None
    if calibration.report:
        passes = "the run went on since the safety envelope was calibrated: what looks unusual to these weights passes"
        return f"{passes} unnoticed; plait calibrate {checkpoint} DATASET learns it again"
    known, seen = calibration.known, calibration.seen
    kinds = {"states": known.state_low, "actions": seen.low, "noise": known.grain}
    names = " and ".join(", ".join(kind for kind, found in kinds.items() if found).rsplit(", ", 1))
    passes = "unusual states, pictures and actions pass unnoticed"
    if names:
        passes = f"it knows the {names} of the training, and what else is unusual passes unnoticed"
    return f"the safety envelope is not calibrated: {passes}; plait calibrate {checkpoint} DATASET shows it clean ones"
