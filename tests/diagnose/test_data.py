from pathlib import Path

import pytest

from plait.data.lerobot import Dataset
from plait.diagnose import data
from plait.diagnose.data import ask, judge
from plait.diagnose.doctor.examine import Diagnosis
from plait.diagnose.doctor.finding import Finding
from plait.diagnose.subject import Subject
from policies import small_policy

DATASET = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_images"
LOOKED_AT = {"episodes": 3, "replays": 2}


def test_data_that_is_not_the_policys_is_called_out() -> None:
    answer = ask(Subject(small_policy(), "tabletop", {}, dataset=DATASET))
    assert answer.tone == "bad" and "wrong (3 episodes read, 0 of them replayed in the simulator)" in answer.verdict
    assert "The first: " in answer.verdict and "conventions" in answer.parts[0]
    assert {finding["severity"] for finding in answer.numbers["findings"]} >= {"error", "ok"}


@pytest.mark.parametrize(
    ("recorded", "given"), [({}, ("tabletop", {"family": "pick"})), ({"arguments": {"env": "tabletop"}}, (None, None))]
)
def test_the_environment_is_the_one_of_the_recording_and_else_the_subjects(monkeypatch, recorded, given) -> None:
    asked = []

    def examine(dataset, *environment, policy):
        asked.append(environment)
        return Diagnosis("d", LOOKED_AT, [Finding("ok", "fine")])

    monkeypatch.setattr(data, "examine", examine)
    monkeypatch.setattr(Dataset, "provenance", lambda _: recorded)
    ask(Subject(small_policy(), "tabletop", {"family": "pick"}, dataset=DATASET))
    assert asked == [given]


def test_healthy_data_is_good_news() -> None:
    verdict, tone = judge(Diagnosis("d", LOOKED_AT, [Finding("ok", "fine")]))
    assert tone == "good" and verdict.startswith("In the data, nothing looks wrong (3 episodes read, 2 of them")


def test_without_a_dataset_the_question_is_refused() -> None:
    with pytest.raises(ValueError, match="say --dataset DATASET"):
        ask(Subject(small_policy(), "tabletop", {}))
