"""Every check of a dataset, in the order in which a person would ask."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium

from plait import envs
from plait.data.lerobot import Dataset
from plait.diagnose.doctor import clock, entries, environment, motion, normalisation, pictures, words
from plait.diagnose.doctor.case import FILMS, REPLAYS, Case, spaced
from plait.diagnose.doctor.finding import Finding
from plait.diagnose.doctor.moments import moments
from plait.diagnose.doctor.replay import replay
from plait.diagnose.doctor.whole import whole
from plait.policy import Policy

Check = Callable[[Case], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "whole": whole,
    "conventions": environment.conventions,
    "replay": replay,
    "motion": motion.follow,
    "gripper": motion.gripper,
    "rotation": motion.rotation,
    "constant": entries.constant,
    "saturated": entries.saturated,
    "limits": entries.limits,
    "statistics": normalisation.stored,
    "round trip": normalisation.round_trip,
    "normaliser": normalisation.normaliser,
    "pictures": pictures.films,
    "cameras": pictures.consistent,
    "views": environment.views,
    "moments": moments,
    "clock": clock.clock,
    "length": clock.length,
    "words": words.instructions,
    "pairing": words.pairing,
    "repeated": words.repeated,
    "scene": words.scene,
}


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at, and what was found."""

    dataset: str
    looked_at: dict[str, Any]
    findings: list[Finding]

    @property
    def errors(self) -> int:
        return Counter(finding.severity for finding in self.findings)["error"]

    @property
    def verdict(self) -> str:
        """One sentence."""
        warnings = Counter(finding.severity for finding in self.findings)["warning"]
        more = f"{_things(warnings)} worth a look" if warnings else ""
        if self.errors:
            return f"{_things(self.errors, 'looks', 'look')} wrong" + (f", {more}" if more else "")
        return f"nothing looks wrong, {more}" if more else "nothing looks wrong"

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, **asdict(self)}


def examine(
    dataset: Dataset | Path | str,
    env: str | None = None,
    env_args: dict[str, Any] | None = None,
    policy: Policy | None = None,
) -> Diagnosis:
    """Look for what makes a policy fail although its loss looks fine.

    Args:
        dataset: a LeRobotDataset v3, opened by ``Dataset.read``, or its folder.
        env: the environment that it was recorded in; None: the one that plait recorded it in.
        env_args: for the environment, beside those of the recording.
        policy: on the CPU; one that was trained on it, or shall act on its robot.

    Raises:
        ValueError: no dataset, one with a broken file, or no such environment.
    """
    opened = dataset if isinstance(dataset, Dataset) else Dataset.read(dataset)
    made, no_env = _environment(opened, env, env_args or {})
    case = Case(opened, made, no_env, policy, None if made is None else envs.blind(made))
    checks = CHECKS if case.sound else {"whole": whole}  # without one episode of finite numbers, that is all to say
    try:
        findings = [finding for name, check in checks.items() for finding in run(name, check, case)]
    finally:
        for each in (case.env, case.simulator):
            if each is not None:
                each.close()
    return Diagnosis(str(opened.path), _looked_at(case), findings)


def run(name: str, check: Check, case: Case) -> Iterator[Finding]:
    """The findings of one check; without any, one that says ``ok``."""
    found = False
    try:
        for finding in check(case):
            found = True
            yield replace(finding, check=name)
    except ValueError as error:  # a broken picture, an action that the environment refuses
        found = True
        yield Finding("error", str(error), check=name)
    if not found:
        yield Finding("ok", _rule(check), check=name)


def _environment(dataset: Dataset, env: str | None, env_args: dict[str, Any]) -> tuple[gymnasium.Env | None, str]:
    """The environment, or None and why there is none."""
    recorded = dataset.provenance().get("arguments", {})
    if env is None and "env" not in recorded:
        return None, "no environment (--env) is given, and plait did not record this dataset"
    if env is not None and env != recorded.get("env"):
        return envs.make(env, **env_args), ""
    try:
        return envs.make(recorded["env"], **{**recorded.get("env_args", {}), **env_args}), ""
    except (ValueError, OSError, ImportError) as error:
        if env is not None:
            raise
        return None, f"the environment of the recording cannot be made: {error}"


def _looked_at(case: Case) -> dict[str, Any]:
    return {
        "episodes": len(case.dataset.episodes),
        "frames": len(case.dataset),
        "episodes_with_pictures": len(case.sample(FILMS)) if case.spec.cameras else 0,
        "scenes": len(case.starts),
        "replays": len(spaced(case.scenes, REPLAYS)) if case.env else 0,
    }


def _rule(check: Check) -> str:
    """What holds, as the first line of the check's docstring says it."""
    return (check.__doc__ or "").splitlines()[0].partition(". ")[0].partition(" (")[0].removesuffix(".").lower()


def _things(count: int, one: str = "is", many: str = "are") -> str:
    return f"{count} thing {one}" if count == 1 else f"{count} things {many}"
