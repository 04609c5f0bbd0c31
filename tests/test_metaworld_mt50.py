"""The benchmark of Meta-World, small: three tasks, a few updates, every phase."""

import json
import re
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
        "bfloat16-seed0-scenes7",
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
    assert "1 for each task (published: 50)" in text and "| record, train and evaluate seed 0 |" in text
    assert re.search(r"\| black pictures \| 0 \| 3 \| [\d.]+ \[[\d.]+, [\d.]+\] \| [\d.]+ \[[\d.]+, [\d.]+\] \|", text)
    written = json.loads(report.with_suffix(".json").read_text())
    assert "Protocol: camera `corner2` at 32 x 32 pixels" in text and "at most 500 steps, success at any" in text
    assert written["pooled"]["n_episodes"] == 3 and len(written["pooled"]["mean_of_tiers"]["pc_success_ci95"]) == 2
    assert written["controls"]["black pictures"]["seeds"] == [0] and len(written["pooled"]["per_task"]) == 3
    cells = [cell for phase in written["phases"].values() for cell in phase.get("cells", {}).values()]
    assert len(cells) == 4 and all(cell["protocol"]["seed"] == 700 for cell in cells)

    Path("mt/phases/train-seed0.json").unlink()
    told = call("--seeds", "0", "1", "--phases", "report")
    assert "**Not evaluated yet: seeds 1.**" in told and "| **plait** | – |" in told and "evaluate seed 0 |" not in told


def test_a_refused_call_binds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script = runpy.run_path(str(SCRIPT), run_name="metaworld_mt50")
    command = f"--out mt --hardware CPU --demonstrations 0 {SIZE.partition('--demonstrations 1 ')[2]} --phases record"
    with pytest.raises(SystemExit, match="0"):
        script["main"](tyro.cli(script["Options"], args=command.split()))
    assert not Path("mt/phases").exists()


@pytest.mark.parametrize(
    ("phase", "told"), [("train", "mt/data"), ("evaluate", "mt/run-seed0"), ("report", "nothing is evaluated yet")]
)
def test_a_phase_without_the_one_before_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script = runpy.run_path(str(SCRIPT), run_name="metaworld_mt50")
    command = ["--out", "mt", "--hardware", "a CPU", *SIZE.split(), "--phases", phase]
    with pytest.raises(SystemExit, match=told):
        script["main"](tyro.cli(script["Options"], args=command))
