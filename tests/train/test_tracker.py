"""The log: one exact row per step, cut to the step of a resume."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from plait.train.tracker import Tracker, read_log


def test_rows_are_exact_and_measurements_join_the_newest(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.add(1, {"loss": torch.tensor(0.1), "part": torch.tensor(0.2)})
        tracker.add(2, {"loss": torch.tensor(1 / 3), "part": torch.tensor(0.3)})
        tracker.measure([("validation/loss", 0.5)])
        assert tracker.read()["validation/loss"] == 0.5
        assert tracker.read() == {}
    first, second = read_log(tmp_path)
    assert (first["step"], "validation/loss" in first) == (1, False)
    assert torch.tensor(second["loss"]) == torch.tensor(1 / 3)


def test_what_was_read_is_written_when_the_next_update_is_on_its_way(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        for step in (1, 2, 3):
            tracker.add(step, {"loss": torch.tensor(float(step))})
            assert tracker.read()["loss"] == step
            assert [row["step"] for row in read_log(tmp_path)] == list(range(1, step))
        tracker.flush()  # before a checkpoint: a run that goes on from there lacks no row
        assert [row["step"] for row in read_log(tmp_path)] == [1, 2, 3]
        tracker.add(4, {"loss": torch.tensor(float("nan"))})
        tracker.read()
        with pytest.raises(FloatingPointError, match="nan at step 4"):
            tracker.add(5, {"loss": torch.tensor(0.0)})
    assert [row["step"] for row in read_log(tmp_path)] == [1, 2, 3, 4]


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.add(1, {"loss": torch.tensor(0.25)})
        tracker.flush()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 0.25)]


def test_resume_drops_later_rows_and_a_cut_line(tmp_path: Path) -> None:
    rows = [json.dumps({"step": step, "loss": 0.0}) for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(rows) + '\n{"step": 4, "los')
    with Tracker(tmp_path, step=2) as tracker:
        tracker.add(3, {"loss": torch.tensor(1.0)})
        tracker.flush()
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [(1, 0), (2, 0), (3, 1)]


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.add(5, {"loss": torch.tensor(float("inf"))})
        with pytest.raises(FloatingPointError, match="inf at step 5; lower the learning rate"):
            tracker.flush()
