"""``plait train``: how parts are swapped by a word, and what is told of options that it does not have."""

import re
from dataclasses import make_dataclass

import pytest

from plait.cli import main
from plait.cli.parse import option_names
from plait.cli.train import HABITS, swap_parts
from plait.fusion import EarlyConfig
from plait.policy import PolicyConfig
from plait.train.config import TrainConfig


def test_a_part_is_swapped_by_its_option_and_what_only_looks_alike_stays() -> None:
    config, rest = swap_parts(PolicyConfig(), ["--fusion=early", "--env-args", "language=ko", "--fusion.width", "8"])
    assert config.fusion == EarlyConfig()
    assert rest == ["--env-args", "language=ko", "--fusion.width", "8"]


@pytest.mark.parametrize(
    ("option", "here"),
    [
        ("--lr", "--train.learning-rate."),
        ("--lr=0.1", "--train.learning-rate."),
        ("--train.bs", "--train.batch-size."),
        ("--num_epochs", "--train.steps, the number of updates."),
        ("--resume", "the same command again: it goes on from what lies in --out."),
    ],
)
def test_the_options_of_other_tools_are_translated(option: str, here: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tabletop-pick", "--dataset", "d", "--out", "o", option, "3"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"plait: no option {option!r}; ") and told.endswith(f"Here it is {here}\n")


def test_what_they_are_translated_to_exists() -> None:
    known = {*option_names(make_dataclass("Options", [("train", TrainConfig, TrainConfig())])), "--out", "--init"}
    assert {option for text in HABITS.values() for option in re.findall(r"--[\w.-]+", text)} <= known
    assert not {f"--{name}" for name in HABITS} & known
