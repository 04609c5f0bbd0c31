"""The benchmark of Meta-World, small: three tasks, a few updates, every phase."""

import json
import runpy
from pathlib import Path

import pytest
import tyro

pytest.importorskip("metaworld")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "metaworld_mt50.py"
SIZE = (  # a policy that has learnt nothing takes 500 steps, so it looks as rarely as it can
    "--tasks reach push drawer-open --demonstrations 1 --episodes 1 --workers 1 --steps 2 --batch-size 8"
    " --image-size 32 --execute 16"
)


def test_every_phase_leaves_its_result_and_is_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script = runpy.run_path(str(SCRIPT), run_name="metaworld_mt50")

    def call(*phases: str) -> str:
        command = ["--out", "mt", "--hardware", "a CPU", "--report", ".", *SIZE.split(), *phases]
        script["main"](tyro.cli(script["Options"], args=command))
        return capsys.readouterr().out

    assert "record:" in call()
    phases = {path.stem: json.loads(path.read_text()) for path in Path("mt/phases").iterdir()}
    assert phases.keys() == {
        "record",
        "train-seed0",
        "evaluate-seed0-scenes7",
        "controls-seed0-scenes7",
        "latency-seed0",
    }
    assert phases["record"]["episodes"] == 3 and phases["train-seed0"]["samples"] == 16
    evaluated = phases["evaluate-seed0-scenes7"]["cells"]["as trained"]
    assert sorted(row["task_name"] for row in evaluated["per_episode"]) == ["drawer-open-v3", "push-v3", "reach-v3"]
    black = phases["controls-seed0-scenes7"]["cells"]["black pictures"]["protocol"]
    assert json.dumps("corner2") in json.dumps(black)

    assert "record:" not in call("--phases", "record", "report")  # only the report is made anew
    (report,) = tmp_path.glob("metaworld_mt50_a-CPU_*.md")
    text = report.read_text()
    assert "| **plait** |" in text and "| FabriVLA | 0.89 B | 95.0 |" in text and "| push-v3 | hard |" in text
