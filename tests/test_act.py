"""The benchmark beside ACT, without ACT: plait's ways of training are what they are called, whatever the recipe is."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.train.config import TrainConfig
from plait.train.state import TrainState

pytest.importorskip("metaworld")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "act.py"


def test_each_way_of_training_is_what_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script = runpy.run_path(str(SCRIPT), run_name="act")
    found: list[TrainConfig] = []

    def start(model: Any, config: TrainConfig) -> TrainState:
        found.append(config)
        raise InterruptedError  # before anything is compiled

    monkeypatch.setattr(TrainState, "start", start)
    for how in script["UPDATES"].values():
        with pytest.raises(InterruptedError):
            script["_plait_update"](32, 2, torch.device("cpu"), **how)
    assert dict(zip(script["UPDATES"], ((each.cuda_graph, each.compile) for each in found), strict=True)) == {
        "plait, eager": (False, False),
        "plait": (True, False),
        "plait, compiled": (True, True),
    }
