"""The main job through the command line, small: record, train, stop, resume, evaluate, act."""

import json
import os
import signal
from pathlib import Path

import pytest

import plait
from plait.cli import main
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.data.png import encode_png
from plait.train.tracker import read_log


def test_record_train_resume_evaluate_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    record = "record tabletop --env-args family=pick size=32 --episodes 4 --workers 1 --out data"
    train = "train tabletop-pick --dataset data --image-size 32 --train.steps 4 --train.batch-size 4"
    assert main(record.split()) == 0
    assert main(f"{train} --out whole".split()) == 0

    with monkeypatch.context() as patch:  # Ctrl-C while the second step runs
        original = Loader.batch
        interrupt = lambda self, step: (step == 2 and os.kill(os.getpid(), signal.SIGINT), original(self, step))[1]  # noqa: E731
        patch.setattr(Loader, "batch", interrupt)
        assert main(f"{train} --out run".split()) == 130
    assert "of 4 is saved in run and the same command continues" in capsys.readouterr().err
    assert 1 <= len(read_log(Path("run"))) < 4
    assert main(f"{train} --out run".split()) == 0
    assert losses("run") == losses("whole")
    assert main(f"{train} --out run --train.seed 1".split()) == 2
    assert "train.seed (0 then, 1 now)" in capsys.readouterr().err

    assert main(f"{train} --out tuned --init run --head.hidden 31 --train.steps 1".split()) == 0
    assert "init: starts anew: " in capsys.readouterr().err

    assert main(["eval", "run", "--episodes", "2", "--workers", "1"]) == 0
    result = json.loads(Path("run/eval/normal/eval.json").read_text())
    assert result["aggregated"]["n_episodes"] == 2
    assert result["protocol"]["env_args"].items() >= {"family": "pick", "size": 32, "quality": "fast"}.items()

    assert main(["eval", "run", "--dataset", "data"]) == 0
    shown = capsys.readouterr().out
    assert "moments of 1 held-out episodes" in shown and "they were held out in the training too" in shown
    assert json.loads(Path("run/eval/dataset-data/eval.json").read_text())["counts"]["n_episodes"] == 1

    Path("a.png").write_bytes(encode_png(Dataset.open("data").images("front", [0])[0].numpy()))
    assert main(["act", "run", "--image", "front=a.png", "--instruction", "pick up the red ball"]) == 0
    assert "position  x " in capsys.readouterr().out
    assert plait.load("run").spec.cameras == {"front": (32, 32), "wrist": (32, 32)}


def losses(run: str) -> list[dict[str, float]]:
    """The log without how fast it went."""
    return [
        {name: row[name] for name in row if name not in ("samples_per_s", "data_wait")} for row in read_log(Path(run))
    ]
