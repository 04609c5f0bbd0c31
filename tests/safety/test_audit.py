"""Every event is a line of JSON, in files that do not grow without end."""

import json

import pytest

from plait.safety.audit import Audit


def test_events_are_lines_of_json(tmp_path):
    audit = Audit(tmp_path / "logs/audit.jsonl", clock=lambda: 1.5)
    audit.write({"robot": "로봇", "reasons": ("one\ntwo",), "state": [float("nan"), 1.0], "score": float("inf")})
    audit.close()
    (line,) = (tmp_path / "logs/audit.jsonl").read_text(encoding="utf-8").splitlines()
    told = {"robot": "로봇", "reasons": ["one\ntwo"], "state": [None, 1.0], "score": None}
    assert json.loads(line) == {"at": 1.5, **told}


def test_files_are_rotated_and_old_ones_go(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl", size=200, keep=2)
    for i in range(40):
        audit.write({"number": i})
    audit.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(file.stat().st_size <= 200 for file in files)
    assert json.loads(files[0].read_text().splitlines()[-1])["number"] == 39


def test_a_disk_that_is_full_stops_nobody_and_is_told_in_a_sentence(capsys, monkeypatch):
    audit = Audit("/dev/full")
    for i in range(3):
        audit.write({"number": i})
    full = "plait: audit /dev/full: No space left on device; lines are lost until it can be written\n"
    assert capsys.readouterr().err == full
    audit.close()
    with open("/dev/full", "w") as nowhere:
        monkeypatch.setattr("sys.stderr", nowhere)
        Audit("/dev/full").write({"number": 3})
        monkeypatch.undo()
        with pytest.raises(OSError):
            nowhere.close()


def test_how_many_lines_were_lost_is_told_when_they_can_be_written_again(tmp_path, capsys):
    folder = tmp_path / "logs"
    audit = Audit(folder / "audit.jsonl")
    audit.write({"number": 0})
    folder.rename(tmp_path / "away")
    for i in (1, 2):
        audit.write({"number": i})
    folder.mkdir()
    for i in (3, 4):
        audit.write({"number": i})
    audit.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("audit.jsonl: No such file or directory; lines are lost until it can be written")
    assert second.endswith("audit.jsonl: is written again; 2 lines were lost")
    assert [json.loads(line)["number"] for line in (folder / "audit.jsonl").read_text().splitlines()] == [3, 4]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    audit.write({"number": 0})
    (tmp_path / "audit.jsonl").rename(tmp_path / "old")
    audit.write({"number": 1})
    audit.close()
    assert [json.loads((tmp_path / name).read_text())["number"] for name in ("old", "audit.jsonl")] == [0, 1]
