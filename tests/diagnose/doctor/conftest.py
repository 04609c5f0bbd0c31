"""Healthy demonstrations, recorded once, and an environment that lays their scenes out again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import pytest

from plait import envs
from plait.data.lerobot import Dataset
from plait.diagnose.doctor.case import Case
from plait.diagnose.doctor.examine import CHECKS, run
from plait.diagnose.doctor.finding import Finding
from plait.record.recorder import record

SIZE = 40
Doctor = Callable[..., list[Finding]]


@pytest.fixture(scope="session")
def pick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 episodes, 2 cameras of 40 pixels."""
    folder = tmp_path_factory.mktemp("doctor") / "pick"
    record("tabletop", folder, 9, {"family": "pick", "size": SIZE}, workers=1)
    return folder


@pytest.fixture(scope="session")
def tabletop() -> Iterator[tuple[gymnasium.Env, gymnasium.Env]]:
    """The environment of ``pick``, and the same without pictures."""
    made = envs.make("tabletop", size=SIZE), envs.make("tabletop", cameras=())
    yield made
    for env in made:
        env.close()


@pytest.fixture
def doctor(tabletop: tuple[gymnasium.Env, gymnasium.Env]) -> Doctor:
    """What one check finds; ``simulated=False``: without the environment."""

    def examined(check: str, dataset: Path, simulated: bool = True, **about) -> list[Finding]:
        env, simulator = tabletop if simulated else (None, None)
        return list(run(check, CHECKS[check], Case(Dataset.read(dataset), env, simulator=simulator, **about)))

    return examined


@pytest.fixture
def error(doctor: Doctor) -> Callable[..., str]:
    """The sentence of the one finding of a check, which is an error."""

    def only(check: str, dataset: Path, severity: str = "error", **about) -> str:
        (finding,) = doctor(check, dataset, **about)
        assert finding.severity == severity, finding
        return finding.sentence

    return only
