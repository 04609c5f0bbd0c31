"""Every event is a line of JSON, in files that do not grow without end."""

import json

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


def test_a_disk_that_is_full_stops_nobody(tmp_path, capsys):
    audit = Audit(tmp_path / "audit.jsonl")
    audit._file.stream.close()
    audit._file.stream = open("/dev/full", "w")  # noqa: SIM115
    audit.write({"number": 1})
    assert "No space left on device" in capsys.readouterr().err
