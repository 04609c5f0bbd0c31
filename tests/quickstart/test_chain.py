"""The whole way, very small: record, train, diagnose; and what a second call does."""

import json
import re
import shlex
from html import unescape

import pytest

from plait.cli import main
from plait.diagnose import attention, cost, listens, subject
from plait.diagnose.report import FAST, NUMBERS
from plait.files import locked
from plait.quickstart.chain import NOTES, Notes, quickstart

SIZES = {"episodes": 10, "steps": 3, "scenes": 2, "contrast": 1, "workers": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One film of each evaluation and one of where it looks; short measurements of the cost."""
    folder = tmp_path_factory.mktemp("quickstart") / "here"
    with pytest.MonkeyPatch.context() as patch:
        for module in (subject, listens, attention):
            patch.setattr(module, "FILMS", 1)
        patch.setattr(cost, "FEWEST", 3)
        patch.setattr(cost, "MOST", 3)
        return quickstart(folder, **SIZES)


def test_the_page_is_the_short_diagnosis_and_how_the_policy_came_about(finished):
    document = finished.read_text("utf-8")
    assert document.count("<h1>") == 1
    assert "<h1>It succeeds in 0 of 2 new scenes (95 % interval: 0 to 66 %).</h1>".replace(" %", "\u00a0%") in document
    assert re.findall(r'<section id="(.*?)">', document) == list(FAST)
    assert re.findall(r"<h2>(.*?)</h2>", document)[-3:] == ["How did it learn?", "Where did the time go?", "Go on"]
    assert document.count('<img src="data:image/webp;base64,') == 3  # normal, exchanged, where it looks
    assert not re.findall(r'(?:src|href)="(?!data:|#)', document)


def test_every_phase_is_noted_and_every_evaluation_written(finished):
    notes, numbers = read_notes(finished.parent), json.loads((finished.parent / NUMBERS).read_text())
    assert list(notes) == ["record", "train"]
    assert all(entry["done"] and entry["seconds"] > 0 for entry in notes.values())
    assert all(numbers["answers"][name]["seconds"] > 0 for name in FAST) and not numbers["missing"]
    results = {path.parent.name: json.loads(path.read_text()) for path in finished.parent.glob("eval/*/eval.json")}
    counted = {name: len(result["per_episode"]) for name, result in results.items()}
    assert counted == {"normal": 2, "exchanged": 2, "absent": 1, "shuffled": 1, "paraphrase": 1, "unseen": 1}
    assert results["unseen"]["per_split"].keys() == {"unseen"}
    scenes = [[row["seed"] for row in results[name]["per_episode"]] for name in ("normal", "exchanged")]
    assert scenes[0] == scenes[1]
    assert results["normal"]["protocol"]["checkpoint"] == numbers["settings"]["checkpoint"]


def test_the_command_to_act_works_as_it_is_printed(finished, capsys):
    command = unescape(re.search(r"<code>(plait act .*?)</code>", finished.read_text("utf-8"), re.DOTALL)[1])
    assert main(shlex.split(command)[1:]) == 0
    assert "gripper" in capsys.readouterr().out


def test_a_second_call_does_nothing_again(finished):
    files = sorted(finished.parent.glob("eval/*/eval.json")) + sorted(finished.parent.glob("run/checkpoints/*/*"))
    before = {file: file.stat().st_mtime_ns for file in files}
    assert quickstart(finished.parent, **SIZES) == finished
    assert {file: file.stat().st_mtime_ns for file in files} == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"episodes": 11}, "episodes (10 then, 11 now)"),
        ({"steps": 4}, "steps (3 then, 4 now)"),
        ({"seed": 1}, "seed (0 then, 1 now)"),
    ],
)
def test_other_settings_are_refused_before_anything_is_changed(finished, other, difference):
    before = contents(finished.parent)
    with pytest.raises(ValueError, match=re.escape(f"made with other settings: {difference}; say --out")) as error:
        quickstart(finished.parent, **SIZES | other)
    assert str(error.value).startswith(f"{finished.parent} ") and "or --fresh" in str(error.value)
    assert contents(finished.parent) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_the_settings_of_phases_that_have_begun_bind(tmp_path, monkeypatch):
    monkeypatch.setattr("plait.quickstart.chain._record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quickstart(tmp_path, **SIZES)
    monkeypatch.setattr("plait.quickstart.chain._record", lambda *_: {})
    monkeypatch.setattr("plait.quickstart.chain._train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quickstart(tmp_path, **SIZES | {"steps": 4})
    with pytest.raises(ValueError, match=re.escape("steps (4 then, 3 now)")):
        quickstart(tmp_path, **SIZES)


def interrupted(*_):
    raise KeyboardInterrupt


def read_notes(folder):
    return json.loads((folder / NOTES).read_text())


def test_a_second_quickstart_in_the_same_folder_is_refused(finished):
    before = contents(finished.parent)
    for fresh in (False, True):
        with locked(finished.parent), pytest.raises(ValueError, match="another process is writing here"):
            quickstart(finished.parent, **SIZES, fresh=fresh)
    assert contents(finished.parent) == before


def test_a_fresh_start_leaves_nothing_behind_and_keeps_the_lock(tmp_path, monkeypatch):
    (tmp_path / "dataset").mkdir()
    (tmp_path / NOTES).write_text('{"record": {"settings": {"seed": 5}, "done": true, "seconds": 1.0}}')

    def second(*_):
        with pytest.raises(ValueError, match="another process"), locked(tmp_path):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr("plait.quickstart.chain._record", second)
    with pytest.raises(KeyboardInterrupt):
        quickstart(tmp_path, **SIZES, fresh=True)
    assert list(tmp_path.iterdir()) == [tmp_path / NOTES]
    assert read_notes(tmp_path)["record"]["settings"]["seed"] == 0


@pytest.mark.parametrize("number", [{"episodes": 9}, {"scenes": 1}, {"seed": -1}, {"workers": 0}, {"steps": 0}])
def test_numbers_that_are_too_small_leave_no_folder(tmp_path, number):
    with pytest.raises(ValueError, match="at least"):
        quickstart(tmp_path / "q", **SIZES | number)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(ValueError, match="is not empty and holds no quickstart"):
            quickstart(tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.txt").exists()


def test_an_interrupted_phase_goes_on_and_its_time_adds_up(tmp_path):
    notes = Notes(tmp_path / NOTES)

    with pytest.raises(KeyboardInterrupt):
        notes.phase("train", {"steps": 5}, interrupted)
    first = Notes(tmp_path / NOTES).entries["train"]
    assert first["done"] is False
    notes.phase("train", {"steps": 5}, lambda: {"parameters": 7})
    assert notes.entries["train"]["seconds"] > first["seconds"]
    assert notes.entries["train"]["parameters"] == 7


def test_a_phase_that_is_killed_is_known_to_have_begun(tmp_path):
    notes = Notes(tmp_path / NOTES)
    notes.phase("train", {"steps": 5}, lambda: {"noted": read_notes(tmp_path)["train"]})
    assert notes.entries["train"]["noted"] == {"settings": {"steps": 5}, "done": False, "seconds": 0.0}


def test_a_phase_is_done_once_per_settings(tmp_path):
    calls = []
    for steps in (5, 5, 6):
        Notes(tmp_path / NOTES).phase("train", {"steps": steps}, lambda steps=steps: calls.append(steps) or {})
    assert calls == [5, 6]
