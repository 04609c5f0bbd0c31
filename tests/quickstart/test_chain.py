"""The whole way, very small: record, train, evaluate, report; and what a second call does."""

import json
import re
import shlex
from html import unescape

import pytest

from plait.cli import main
from plait.quickstart.chain import NOTES, TRIALS, Notes, quickstart

SIZES = {"episodes": 10, "steps": 3, "scenes": 2, "contrast": 1, "workers": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart") / "here"
    return quickstart(folder, **SIZES)


def test_the_page_tells_what_was_measured(finished):
    document = finished.read_text("utf-8")
    assert document.count("<h1>") == 1
    assert "The policy has not learned the task yet: it succeeds in 0 of 100 new scenes." in document
    assert document.count('<img src="data:image/webp;base64,') == 4  # of each filmed evaluation there are 2 scenes
    assert not re.findall(r'(?:src|href)="(?!data:)', document)


def test_every_phase_is_noted_and_every_evaluation_written(finished):
    notes = json.loads((finished.parent / NOTES).read_text())
    assert list(notes) == ["record", "train", "normal", "exchanged", "absent", "unseen"]
    assert all(entry["done"] and entry["seconds"] > 0 for entry in notes.values())
    results = {name: json.loads((finished.parent / "eval" / name / "eval.json").read_text()) for name in TRIALS}
    assert results["unseen"]["per_split"].keys() == {"unseen"}
    assert results["absent"]["per_episode"][0]["instruction"] == ""
    scenes = [[row["seed"] for row in results[name]["per_episode"]] for name in ("normal", "exchanged")]
    assert scenes[0] == scenes[1]
    assert results["normal"]["protocol"]["checkpoint"] == notes["normal"]["settings"]["checkpoint"]


def test_the_command_to_act_works_as_it_is_printed(finished, capsys):
    command = unescape(re.search(r"<code>(plait act .*?)</code>", finished.read_text("utf-8"), re.DOTALL)[1])
    assert main(shlex.split(command)[1:]) == 0
    assert "gripper" in capsys.readouterr().out


def test_a_second_call_does_nothing_again(finished):
    files = sorted(finished.parent.glob("eval/*/eval.json")) + sorted(finished.parent.glob("run/checkpoints/*/*"))
    before = {file: file.stat().st_mtime_ns for file in files}
    assert quickstart(finished.parent, **SIZES) == finished
    assert {file: file.stat().st_mtime_ns for file in files} == before


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(ValueError, match="is not empty and holds no quickstart"):
            quickstart(tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.txt").exists()


def test_an_interrupted_phase_goes_on_and_its_time_adds_up(tmp_path):
    notes = Notes(tmp_path / NOTES)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        notes.phase("train", {"steps": 5}, interrupted)
    first = Notes(tmp_path / NOTES).entries["train"]
    assert first["done"] is False
    notes.phase("train", {"steps": 5}, lambda: {"parameters": 7})
    assert notes.entries["train"]["seconds"] > first["seconds"]
    assert notes.entries["train"]["parameters"] == 7


def test_a_phase_is_done_once_per_settings(tmp_path):
    calls = []
    for steps in (5, 5, 6):
        Notes(tmp_path / NOTES).phase("train", {"steps": steps}, lambda steps=steps: calls.append(steps) or {})
    assert calls == [5, 6]
