"""``plait doctor``: verdict first, exit status, and the numbers as JSON."""

import json
import shutil
from pathlib import Path

import pytest

from plait.cli import main

FIXTURE = Path(__file__).parents[1] / "fixtures/lerobot_v3_images"


def test_a_healthy_dataset_ends_with_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", str(FIXTURE), "--json", str(tmp_path / "new/found.json")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith(f"{FIXTURE}: nothing looks wrong all numbers of 3 episodes (36 frames)")
    found = json.loads((tmp_path / "new/found.json").read_text())
    assert found["verdict"] == "nothing looks wrong" and found["looked_at"]["episodes"] == 3
    assert {"severity", "sentence", "numbers", "check"} == set(found["findings"][0])


def test_a_fault_stands_first_and_ends_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURE, tmp_path / "d")
    file = folder / "meta/stats.json"
    written = json.loads(file.read_text())
    written["action"]["mean"][0] += 1
    file.write_text(json.dumps(written))
    assert main(["doctor", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("1 thing looks wrong")
    first = next(line.split() for line in lines if line.startswith(("error", "ok")))
    assert first[:2] == ["error", "statistics"]


def test_a_folder_for_the_numbers_is_refused_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", str(FIXTURE), "--json", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "that is a folder; give a file" in " ".join(told.err.split()) and "looks wrong" not in told.out


def test_what_is_no_dataset_ends_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", str(tmp_path / "nope")]) == 2
    assert "no such folder" in capsys.readouterr().err
