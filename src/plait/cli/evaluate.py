"""``plait eval``: how often does a policy succeed, or how far is it from demonstrations it has not seen?"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from plait.cli.calibrate import missing
from plait.cli.environment import environment, recorded
from plait.cli.parse import Verb, folder
from plait.config import differences, refuse_other
from plait.files import read_json

CLASHES = {  # option -> why, and what has no meaning beside it
    "failures": (
        "changes the observations itself",
        ("dataset", "instructions", "blank", "execute", "ensemble", "videos"),
    ),
    "dataset": (
        "predicts what is recorded, in no environment",
        ("env", "env_args", "episodes", "instructions", "blank", "execute", "ensemble", "seed", "workers", "videos"),
    ),
}
NAMED = 8  # unknown words, at most
SEEN = {
    True: "they were held out in the training too",
    False: "this is not the dataset of the training: whether the policy has seen them is not known",
    None: "the checkpoint does not say what it was trained on: whether it has seen them is not known",
}


@dataclass(frozen=True)
class Eval(Verb):
    """Evaluate a policy in an environment, or by its error on held-out episodes of a dataset."""

    kept = "no report was written"

    checkpoint: Positional[str]
    """A checkpoint, or the folder of a run (its newest checkpoint is taken)."""
    env: str | None = None
    """tabletop, metaworld, or a gymnasium id; left out, the one that the training data was recorded in."""
    env_args: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the environment, such as family=pick combinations=unseen."""
    dataset: str | None = None
    """Instead of an environment: the dataset of the training; actions of its held-out episodes are predicted."""
    episodes: int = 200
    """Number of episodes in the environment."""
    instructions: Literal["normal", "exchanged", "absent", "paraphrase", "unknown_words"] = "normal"
    """What the policy is told; exchanged = another object of the same scene, or another task."""
    blank: Annotated[tuple[str, ...], arg(metavar="CAMERA ...")] = ()
    """Cameras whose pictures are black."""
    execute: int | None = None
    """Control steps between two predictions; the policy's own value when left out."""
    ensemble: float | None = None
    """Predict at every step and average what overlaps: decay of the weights, such as 0.01 (older ones weigh more)."""
    failures: bool = False
    """Let cameras, state and words fail while the robot moves, with the safety envelope and without."""
    seed: int = 0
    """Chooses the scenes; training never sees any of them."""
    workers: int | None = None
    """Processes that simulate; one per processor when left out."""
    videos: int = 0
    """Number of episodes to film."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format in which the policy multiplies."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto = cuda when there is one."""
    out: str | None = None
    """Folder for eval.json and videos; named after the options, below CHECKPOINT/eval, when left out."""

    def run(self) -> None:
        from plait import checkpoint
        from plait.nn.device import pick_device

        self._refuse_clashes()
        checkpoint.find(self.checkpoint)
        out = folder(self.out or f"{self.checkpoint}/eval/{self._name()}", "--out")
        if self.out is not None:  # the folder that is left out is the policy's own
            refuse_another(out, checkpoint.fingerprint(self.checkpoint))
        policy = checkpoint.load(self.checkpoint).to(pick_device(self.device)).convert(self.precision)
        if self.failures:
            self._fail(policy, out)
        elif self.dataset is None:
            self._closed_loop(policy, out)
        else:
            self._open_loop(policy, out, self.dataset)

    def _name(self) -> str:
        """Of the report's folder: evaluations of different scenes, words or control do not replace each other."""
        if self.dataset is not None:
            return f"dataset-{_plain(Path(self.dataset).resolve().name)}"
        other = self.env if self.env != recorded(self.checkpoint).get("env") else None
        changed = {"env": other, "seed": self.seed or None}
        changed |= {"precision": None if self.precision == "float32" else self.precision}
        changed |= {"blank": ",".join(self.blank) or None, "execute": self.execute, "ensemble": self.ensemble}
        options = [f"{name}={value}" for name, value in changed.items() if value is not None]
        what = "failures" if self.failures else self.instructions
        return "-".join([what, *map(_plain, options), *map(_plain, sorted(self.env_args))])

    def _closed_loop(self, policy: Any, out: Path) -> None:
        from plait import checkpoint
        from plait.evaluate.alter import Blanked
        from plait.evaluate.rollout import PARTIAL, WHOLE, evaluate
        from plait.spec import camera_modality

        env, env_args = environment(self.checkpoint, self.env, self.env_args)
        result = evaluate(
            policy,
            env,
            env_args,
            episodes=self.episodes,
            seed=self.seed,
            instructions=self.instructions,
            alter=[Blanked(camera_modality(camera)) for camera in self.blank],
            execute=self.execute,
            ensemble=self.ensemble,
            workers=self.workers,
            videos=self.videos,
            out=out,
            checkpoint=checkpoint.fingerprint(self.checkpoint),
        )
        done, unknown = len(result["per_episode"]), result["protocol"]["unknown_words"]
        if not done:
            raise KeyboardInterrupt(f"interrupted before any episode was finished; {self.kept}")
        name = PARTIAL if result["partial"] else WHOLE
        print("\n".join([*closed_loop_lines(result), f"details: {out}/{name}"]))
        tell_squeezed(result)
        if unknown["words"] and self.instructions != "unknown_words":
            print(unknown_words_line(**unknown), file=sys.stderr)
        if result["partial"]:
            raise KeyboardInterrupt(
                f"interrupted; the {done} of {self.episodes} episodes that were finished are counted"
            )
        if result["unfilmed"]:
            missing = f"{result['unfilmed']} of {min(self.videos, done)}"
            raise KeyboardInterrupt(f"interrupted while filming; the report is complete, films are missing ({missing})")

    def _refuse_clashes(self) -> None:
        """Raise a ValueError for an option that would have no effect beside another."""
        usual = Eval(self.checkpoint)
        for option, (reason, without) in CLASHES.items():
            for name in without if getattr(self, option) != getattr(usual, option) else ():
                if getattr(self, name) != getattr(usual, name):
                    raise ValueError(f"eval: --{option} {reason}; leave out --{name.replace('_', '-')}.")

    def _fail(self, policy: Any, out: Path) -> None:
        from plait import checkpoint
        from plait.diagnose.success import TO_THE_END, black_cameras, success_under_failure
        from plait.evaluate.failures import REPORT, evaluate_failures
        from plait.safety.calibration import Calibration

        env, env_args = environment(self.checkpoint, self.env, self.env_args)
        calibration = Calibration.find(self.checkpoint, policy)
        if told := missing(self.checkpoint, calibration):
            print(told, file=sys.stderr)
        result = evaluate_failures(
            policy,
            env,
            env_args,
            calibration=calibration,
            episodes=self.episodes,
            seed=self.seed,
            workers=self.workers,
            out=out,
            checkpoint=checkpoint.fingerprint(self.checkpoint),
        )
        details = [f"details: {out}/{REPORT}"]
        if curves := black_cameras(result):
            label = f"control steps for which a camera is black ({TO_THE_END}: to the end)"
            success_under_failure(curves, label).savefig(out / CURVES, dpi=150)
            details.append(f"picture: {out}/{CURVES}")
        print("\n".join([*failure_lines(result), *details]))
        tell_squeezed(result)

    def _open_loop(self, policy: Any, out: Path, dataset: str) -> None:
        from plait.evaluate.openloop import openloop, validation_share
        from plait.evaluate.rollout import write_report
        from plait.files import locked

        result = openloop(policy, dataset, validation_share(self.checkpoint), source=self.checkpoint)
        print("\n".join(open_loop_lines(result)))
        tell_squeezed(result)
        with locked(out):
            print(f"details: {write_report(result, out)}")


def refuse_another(out: Path, fingerprint: str) -> None:
    """Raise a ValueError when a report in ``out``, which would be replaced, is that of another policy."""
    from plait.evaluate.failures import REPORT
    from plait.evaluate.rollout import PARTIAL, WHOLE

    for report in filter(Path.is_file, (out / name for name in (WHOLE, PARTIAL, REPORT))):
        before = read_json(report).get("protocol", {}).get("checkpoint")
        refuse_other(report, differences({"checkpoint": before}, {"checkpoint": fingerprint}))


def tell_squeezed(result: dict[str, Any]) -> None:
    """Name the cameras whose pictures have another shape than those of the training."""
    for line in result["protocol"]["squeezed"]:
        print(line, file=sys.stderr)


def _plain(word: str) -> str:
    """As part of a folder's name."""
    return re.sub(r"[^\w.,=+-]", "_", word)


def closed_loop_lines(result: dict[str, Any]) -> Iterator[str]:
    """One line per number: in total, and per family, split and tier where there are several."""
    from plait.envs.metaworld.tasks import TIERS
    from plait.evaluate.statistics import mean_of_tiers

    groups = {"all episodes": result["aggregated"]}
    for table in (result["per_family"], result["per_split"], result["per_tier"]):
        groups |= table if len(table) > 1 else {}
    for name, group in groups.items():
        yield f"{name:14} success {_percent(group, 'pc_success')}   {group['n_episodes']} episodes"
    if set(result["per_tier"]) == set(TIERS):
        yield f"{'mean of tiers':14} success {_percent(mean_of_tiers(result['per_episode']), 'pc_success')}"
    if result["aggregated"].get("pc_named") is not None:
        yield f"{'':14} acted on the object that was named {_percent(result['aggregated'], 'pc_named')}"


def failure_lines(result: dict[str, Any]) -> Iterator[str]:
    """A line per failure: with the envelope, then without."""
    yield f"{'':34}{'with the safety envelope':55}without"
    yield f"{'what fails':32}{COLUMNS}  noticed after   {COLUMNS}"
    rows = result["failures"]
    without = {(row["kind"], row["modality"]): row for row in rows if not row["envelope"]}
    for row in (row for row in rows if row["envelope"]):
        clean, notice = row["kind"] == "none", row["notice"]
        name = "nothing" if clean else f"{row['kind']} {row['modality']}"
        soon = "never" if notice is None else f"{notice['median']:g} (at most {notice['most']})"
        soon = f"{row['pc_alarm']:.1f} % false" if clean else soon
        yield f"{name:32}{_columns(row)}  {soon:>13}   {_columns(without[row['kind'], row['modality']])}"


CURVES = "failures.png"
COLUMNS = "success    kept   limits    blind"


def _columns(row: dict[str, Any]) -> str:
    """Percent of the episodes: success, what is kept of it, an action outside of the limits; blind steps in each."""
    shares = (row["pc_success"], row["pc_kept"], row["pc_limits"])
    shown = ["–" if value is None else f"{value:.1f}" for value in shares]
    blind = f"{row['blind_steps'] / row['n_episodes']:.1f}" if row["n_episodes"] else "–"
    return f"{shown[0]:>7} {shown[1]:>7}  {shown[2]:>7}  {blind:>7}"


def unknown_words_line(words: list[str], pc_episodes: float) -> str:
    """The warning that the policy was told words which it does not know: some of them, and how often."""
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    shown = ", ".join(words[:NAMED]) + more
    return f"words that training never saw, in the instructions of {pc_episodes:g} % of the episodes: {shown}"


def open_loop_lines(result: dict[str, Any]) -> Iterator[str]:
    """The error beside those of the two baselines, in total and per entry of the action."""
    counts = result["counts"]
    yield f"error on {counts['n_frames']} moments of {counts['n_episodes']} held-out episodes, in standard deviations"
    yield SEEN[result["protocol"]["same_dataset"]]
    yield f"{'action':12} policy   mean action   last action"
    rows = {"all": result["aggregated"]}
    rows |= {name: entry["deviations"] for name, entry in result["per_action"].items()}
    for name, row in rows.items():
        yield f"{name:12} {row['policy']:6.3f}   {row['mean_action']:11.3f}   {row['last_action']:11.3f}"


def _percent(group: dict[str, Any], name: str) -> str:
    if group[name] is None:
        return "–"
    low, high = group[f"{name}_ci95"]
    return f"{group[name]:5.1f} % [{low:.1f}, {high:.1f}]"
