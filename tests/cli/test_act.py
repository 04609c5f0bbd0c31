"""``plait act``: what it warns of, and what it refuses to say."""

from pathlib import Path

import pytest
import torch

from plait import checkpoint
from plait.cli import main
from plait.cli.act import far_outside
from plait.heads import RegressionConfig
from plait.nn.normaliser import Normaliser
from plait.policy import Policy
from plait.spec import Spec
from policies import small_policy

SPEC = Spec(cameras={}, state=("a", "b"), actions=("x", "gripper"))
TOLD = ["--instruction", "pick up the red ball"]


@pytest.fixture
def policy() -> Policy:
    policy = small_policy(spec=SPEC, head=RegressionConfig())
    policy.normalise_state = Normaliser(torch.tensor([0.5, 2.0]), torch.tensor([0.1, 0.0]))  # b never changed
    return policy


def asked(policy: Policy, folder: Path, *arguments: str) -> int:
    return main(["act", str(checkpoint.save(policy, folder / "c")), *arguments])


def test_what_is_left_out_is_told(policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(policy, tmp_path, "--state=0.5,2") == 0
    told = capsys.readouterr().err
    assert told.startswith("left out, though the policy was trained with it: the instruction; ")
    assert told.count("\n") == 1, "one line, and no path of a file in front of it"
    assert asked(policy, tmp_path / "again", "--state=0.5,2", *TOLD) == 0
    assert capsys.readouterr().err == ""


def test_a_state_far_outside_of_the_training_is_told(
    policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(policy, tmp_path, "--state=-0.6,2", *TOLD) == 0
    shown, warned = capsys.readouterr()
    assert "gripper" in shown
    usual = "within 10 standard deviations: -0.5 to 1.5"
    assert warned == f"state: a is -0.6, far from what training saw ({usual})\n"


def test_far_is_ten_standard_deviations_and_what_never_changed_hardly_may(policy: Policy) -> None:
    assert list(far_outside(policy, [1.49, 2.0009])) == []
    assert [line[:8] for line in far_outside(policy, [1.51, 2.0011])] == ["state: a", "state: b"]


def test_an_action_that_is_not_finite_is_refused(
    policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.no_grad():
        policy.normalise_action.mean[1] = torch.nan
    assert asked(policy, tmp_path, "--state=0.5,2", *TOLD) == 2
    shown, told = capsys.readouterr()
    assert shown == "" and told.count("\n") == 1
    assert told.startswith("plait: action: gripper is nan, which no robot can follow; ")
