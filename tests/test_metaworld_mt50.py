"""The benchmark of Meta-World, small: three tasks, a few updates, every phase."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("metaworld")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "metaworld_mt50.py"


def test_every_phase_leaves_its_result_and_is_not_done_twice(tmp_path: Path) -> None:
    size = "--tasks reach door-close push --demonstrations 1 --episodes 1 --workers 2"
    size += " --steps 2 --batch-size 8 --image-size 32"
    command = [sys.executable, str(SCRIPT), "--out", "mt", "--hardware", "a CPU", "--report", ".", *size.split()]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    phases = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "mt/phases").iterdir()}
    assert phases.keys() == {
        "record",
        "train-seed0",
        "evaluate-seed0-scenes2",
        "controls-seed0-scenes2",
        "latency-seed0",
    }
    assert phases["record"]["episodes"] == 3 and phases["train-seed0"]["samples"] == 16
    evaluated = phases["evaluate-seed0-scenes2"]["cells"]["as trained"]
    assert sorted(row["task_name"] for row in evaluated["per_episode"]) == ["door-close-v3", "push-v3", "reach-v3"]
    black = phases["controls-seed0-scenes2"]["cells"]["black pictures"]["protocol"]
    assert json.dumps("corner2") in json.dumps(black)

    again = subprocess.run([*command, "--phases", "record", "report"], cwd=tmp_path, capture_output=True, check=True)
    assert b"record:" not in again.stdout  # only the report is made anew
    (report,) = tmp_path.glob("metaworld_mt50_a-CPU_*.md")
    text = report.read_text()
    assert "| **plait** |" in text and "| FabriVLA | 0.89 B | 95.0 |" in text and "| push-v3 | hard |" in text
