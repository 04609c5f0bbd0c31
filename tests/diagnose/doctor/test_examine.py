"""The whole examination: silent on what is healthy, whoever wrote it."""

from pathlib import Path

import numpy as np
import pytest

import reach_env
from faults import rewrite
from plait.data.lerobot import Dataset
from plait.diagnose.doctor.examine import CHECKS, Diagnosis, examine
from plait.diagnose.doctor.finding import Finding
from plait.record.demonstration import DemonstrationConfig
from plait.record.recorder import record

FIXTURES = Path(__file__).parents[2] / "fixtures"


def severities(found: Diagnosis) -> set[str]:
    return {finding.severity for finding in found.findings}


@pytest.mark.parametrize("family", ["place", "push"])
def test_healthy_recordings_are_healthy(family: str, tmp_path: Path) -> None:
    record(
        "tabletop",
        tmp_path / "d",
        6,
        {"family": family, "size": 32},
        workers=1,
        how=DemonstrationConfig(pushes=0.5, slips=0.05, tries=2),
    )
    found = examine(tmp_path / "d")
    assert found.verdict == "nothing looks wrong"
    assert {finding.check for finding in found.findings} == set(CHECKS)
    assert [finding.check for finding in found.findings if finding.severity == "skipped"] == ["normaliser"]


@pytest.mark.parametrize("storage", ["images", "video"])
def test_healthy_datasets_of_lerobot_are_healthy(storage: str) -> None:
    folder = FIXTURES / f"lerobot_v3_{storage}"
    found = examine(folder)
    assert found.verdict == "nothing looks wrong" and severities(found) == {"ok", "skipped"}
    assert found.looked_at == {
        "episodes": 3,
        "frames": 36,
        "episodes_with_pictures": 3,
        "scenes": 0,
        "replays": 0,
    }
    assert examine(Dataset.read(folder)) == found, "opened already"


def test_another_environment_than_the_recordings_is_found_out(pick: Path) -> None:
    found = examine(pick, "tabletop", {"family": "push"})
    assert {"replay", "scene"} <= {each.check for each in found.findings if each.severity == "error"}


def test_an_environment_that_cannot_be_made_is_refused_when_it_was_asked_for(pick: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'tabletop'"):
        examine(pick, "tabeltop")


def test_the_verdict_counts() -> None:
    findings = [Finding("error", ""), Finding("error", ""), Finding("warning", ""), Finding("ok", "")]
    assert Diagnosis("d", {}, findings).verdict == "2 things look wrong, 1 thing is worth a look"
    assert Diagnosis("d", {}, findings[2:]).verdict == "nothing looks wrong, 1 thing is worth a look"
    assert Diagnosis("d", {}, findings[:1]).verdict == "1 thing looks wrong"


def test_without_one_finite_episode_the_rest_is_left_out(pick: Path, tmp_path: Path) -> None:
    found = examine(rewrite(pick, tmp_path / "d", "observation.state", lambda values: values * np.nan))
    assert [(each.check, each.severity) for each in found.findings] == [("whole", "error")]


def test_a_foreign_environment_is_compared_as_far_as_it_goes(pick: Path) -> None:
    found = examine(pick, reach_env.ID)
    told = {(each.check, each.severity): each.sentence for each in found.findings}
    assert "actions: the dataset has 7 entries" in told["conventions", "error"]
    for check in ("replay", "scene"):  # its scenes have other seeds
        assert "the scenes are those of another environment, 'tabletop'" in told[check, "skipped"]
