"""The report as a whole: files, what an interruption leaves, and what a second call does."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from plait.data.lerobot import Dataset
from plait.diagnose import report
from plait.diagnose.report import NUMBERS, PAGE, diagnose, document
from plait.diagnose.subject import Answer, Tone
from plait.files import locked
from policies import small_policy

DATASET = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_images"


def answer(name: str, tone: Tone = "good") -> Answer:
    return Answer(f"Is it {name}?", f"It is {name}. Twice.", tone, {"n": 1}, (f"<p>numbers of {name}</p>\n",))


@pytest.fixture
def asked(monkeypatch):
    """The questions one, two and three, of which the names are noted when they are asked; ``stop`` interrupts."""
    names: list[str] = []

    def ask(name):
        def question(subject):
            names.append(name)
            if name in stop:
                raise KeyboardInterrupt
            return answer(name, "bad" if name == "two" else "good")

        return question

    stop: set[str] = set()
    monkeypatch.setattr(report, "QUESTIONS", {name: ask(name) for name in ("one", "two", "three")})
    return names, stop


def call(subject, out, questions=("one", "two", "three")):
    return list(diagnose(subject, out, questions))


def test_the_page_is_self_contained_and_begins_with_the_worst_news(shuffled, asked, tmp_path):
    found = call(shuffled, tmp_path / "here", ["three", "one", "two"])
    assert [name for name, _ in found] == asked[0] == ["one", "two", "three"]
    page = (tmp_path / "here" / PAGE).read_text("utf-8")
    assert "<h1>It is two.</h1>" in page
    assert page.index("numbers of one") < page.index("numbers of two") < page.index("numbers of three")
    assert re.findall(r'href="(.*?)"', page) == ["#one", "#two", "#three"]
    assert all(f'<section id="{name}">' in page for name in asked[0])
    assert "in 20 scenes of sides_env:Sides-v0 that training never saw" in page
    numbers = json.loads((tmp_path / "here" / NUMBERS).read_text())
    assert numbers["answers"]["two"].pop("seconds") >= 0
    assert numbers["answers"]["two"] == {
        "question": "Is it two?",
        "verdict": "It is two. Twice.",
        "tone": "bad",
        "numbers": {"n": 1},
    }
    assert numbers["missing"] == []


def test_a_dataset_is_no_place_for_a_report(shuffled, asked, tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    with pytest.raises(ValueError, match="this is a dataset, and no place for a report; say --out another folder"):
        call(shuffled, tmp_path)
    assert asked[0] == [] and len(list(tmp_path.iterdir())) == 1


def test_an_interruption_leaves_what_is_answered_and_the_same_call_goes_on(shuffled, asked, tmp_path):
    names, stop = asked
    stop.add("three")
    with pytest.raises(KeyboardInterrupt):
        call(shuffled, tmp_path)
    page, numbers = (tmp_path / PAGE).read_text("utf-8"), json.loads((tmp_path / NUMBERS).read_text())
    assert "numbers of two" in page and "three<p>Not finished; the same command goes on.</p>" in page
    assert (list(numbers["answers"]), numbers["missing"]) == (["one", "two"], ["three"])
    stop.clear(), names.clear()
    assert len(call(shuffled, tmp_path)) == 3 and names == ["three"]
    page = (tmp_path / PAGE).read_text("utf-8")
    assert "numbers of one" in page and "numbers of three" in page and "Not finished" not in page


def test_an_interruption_within_the_first_question_leaves_a_report_that_names_all(shuffled, asked, tmp_path):
    asked[1].add("one")
    with pytest.raises(KeyboardInterrupt):
        call(shuffled, tmp_path)
    page, numbers = (tmp_path / PAGE).read_text("utf-8"), json.loads((tmp_path / NUMBERS).read_text())
    assert "<h1>Nothing is answered yet.</h1>" in page and page.count("Not finished; the same command goes on.") == 3
    assert (numbers["answers"], numbers["missing"]) == ({}, ["one", "two", "three"])
    asked[1].clear()
    assert len(call(shuffled, tmp_path)) == 3


def test_a_dataset_that_was_mended_in_its_place_is_looked_at_again(shuffled, monkeypatch, tmp_path):
    looked: list[str] = []

    def works(_):
        looked.append("works")
        return answer("there")

    def ask(subject):
        looked.append((subject.dataset / "pictures").read_text())
        return answer("data", "good" if looked[-1] == "good" else "bad")

    monkeypatch.setattr(report, "QUESTIONS", {"works": works, "data": ask})
    monkeypatch.setattr(report, "refuse_unanswerable", lambda *_: None)
    subject = replace(shuffled, dataset=tmp_path / "dataset")
    subject.dataset.mkdir()
    for state in ("bad", "bad", "good"):
        if not looked or looked[-1] != state:
            (subject.dataset / "pictures").write_text(state)
        found = dict(call(subject, tmp_path / "out", ["works", "data"]))
        assert found["data"].tone == state
    assert looked == ["works", "bad", "good"]


def test_the_dataset_is_read_once_for_each_report(shuffled, monkeypatch, tmp_path):
    read, paths = Dataset.read, []
    monkeypatch.setattr(Dataset, "read", lambda path: paths.append(path) or read(path))
    subject = replace(shuffled, dataset=DATASET)
    for out in ("one", "two"):  # it may have been mended between the two
        assert dict(call(subject, tmp_path / out, ["data"]))["data"].tone == "bad"
    assert paths == [DATASET, DATASET]


def test_another_dataset_and_a_part_that_is_gone_cost_no_other_answer(shuffled, asked, tmp_path):
    names, _ = asked
    call(shuffled, tmp_path, ["one", "two"])
    (tmp_path / "parts/two.html").unlink()
    call(replace(shuffled, dataset=tmp_path), tmp_path, ["one", "two"])
    assert names == ["one", "two", "two"]


@pytest.mark.parametrize("other", [{"seed": 1}, {"contrast": 5}])
def test_other_settings_begin_a_new_report(shuffled, asked, tmp_path, other):
    call(shuffled, tmp_path, ["one"])
    call(replace(shuffled, **other), tmp_path, ["two"])
    assert asked[0] == ["one", "two"]
    assert list(json.loads((tmp_path / NUMBERS).read_text())["answers"]) == ["two"]


def test_one_staff_of_workers_serves_all_questions_and_sections_of_others_follow(shuffled, monkeypatch, tmp_path):
    staffs, processes = [], []

    def ask(subject):
        staffs.append(subject.workers)
        replace(subject, episodes=len(staffs)).evaluate(f"number {len(staffs)}")
        processes.append([worker.process for worker in subject.workers._started])
        return answer("well")

    monkeypatch.setattr(report, "QUESTIONS", {"one": ask, "two": ask})
    subject, more = replace(shuffled, _done={}), lambda found: [f"<p>{len(found)} answered</p>"]
    found = list(report.report(subject, tmp_path, ("one", "two"), more))
    assert staffs[0] is staffs[1] and processes[0] == processes[1]
    assert all(process.poll() is not None for process in processes[1])
    page = (tmp_path / PAGE).read_text("utf-8")
    assert page.index('<section id="two">') < page.index("<p>2 answered</p>")
    assert [path.name for path in sorted((tmp_path / "eval").iterdir())] == ["number 1", "number 2"]
    assert all(entry.seconds > 0 for _, entry in found)


def test_what_does_not_fit_is_refused_and_leaves_no_report(shuffled, asked, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no question 'ones'; choose one of .* Did you mean 'one'"):
        call(shuffled, tmp_path / "a", ["ones"])
    with locked(tmp_path), pytest.raises(ValueError, match="another process is writing here"):
        call(shuffled, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / PAGE).exists()


@pytest.mark.parametrize("name", [name for name in report.QUESTIONS if name != "data"])
def test_a_policy_of_another_environment_is_refused_by_each_question(shuffled, tmp_path, name):
    with pytest.raises(ValueError, match=r"does not fit environment 'sides_env:Sides-v0':\n  - .*camera"):
        call(replace(shuffled, policy=small_policy(), _done={}), tmp_path, [name])
    assert not (tmp_path / PAGE).exists()


def test_what_the_last_question_lacks_is_told_before_the_first(shuffled, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setitem(report.QUESTIONS, "works", lambda _: asked.append("works"))
    for dataset, message in ((None, "no dataset is named; say --dataset"), (tmp_path / "gone", "gone: no such folder")):
        with pytest.raises(ValueError, match=message):
            call(replace(shuffled, dataset=dataset), tmp_path / "out", ["works", "data"])
    assert asked == [] and not (tmp_path / "out" / PAGE).exists()


def test_numbers_that_json_does_not_know_become_null(shuffled, monkeypatch, tmp_path):
    numbers = {"gap": [float("inf"), 1.5], "pair": {"cka": float("nan")}}
    monkeypatch.setattr(report, "QUESTIONS", {"one": lambda _: replace(answer("there"), numbers=numbers)})
    call(shuffled, tmp_path, ["one"])

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads((tmp_path / NUMBERS).read_text(), parse_constant=refuse)
    assert found["answers"]["one"]["numbers"] == {"gap": [None, 1.5], "pair": {"cka": None}}


def test_good_news_alone_begin_with_the_first():
    settings = {"episodes": 2, "env": "e", "env_args": {"a": 1}, "checkpoint": "c", "plait": "0", "device": "cpu"}
    page = document(settings, {"works": answer("there"), "costs": answer("cheap")})
    assert "<h1>It is there.</h1>" in page and "in 2 scenes of e, a = 1 that training" in page


def test_of_the_data_alone_no_scene_is_spoken_of():
    settings = {"episodes": 2, "env": "e", "env_args": {}, "checkpoint": "c", "plait": "0", "device": "cpu"}
    page = document(settings | {"dataset": {"path": "demonstrations"}}, {"data": answer("sound")})
    assert "scenes" not in page and "Examined: the dataset <code>demonstrations</code>" in page
