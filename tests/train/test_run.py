"""A run's folder: what it refuses, what it keeps, and what it continues from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

import tiny
from plait.cli.calibrate import missing
from plait.safety.bounds import Seen
from plait.safety.calibration import Calibration, Score
from plait.safety.health import Known
from plait.train.run import Run
from plait.train.state import TrainState
from policies import small_policy

MADE_WITH = {"policy": {"fusion": {"type": "film", "depth": 1}}, "train": {"steps": 12, "keep": 2}}


def open_run(folder: Path, made_with: dict = MADE_WITH, keep: int = 2) -> Run:
    return Run(folder, made_with, tiny.save, keep)


def saved(folder: Path, made_with: dict = MADE_WITH) -> None:
    """A run with one checkpoint."""
    open_run(folder, made_with).save(TrainState.start(tiny.Model(), tiny.CONFIG))


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    saved(tmp_path)
    other = {"policy": {"fusion": {"type": "film", "depth": 3}}, "train": {"steps": 20, "keep": 2}}
    with pytest.raises(ValueError) as caught:
        open_run(tmp_path, other)
    assert (
        "was made with other settings: policy.fusion.depth (1 then, 3 now), train.steps (12 then, 20 now); say --out"
        in str(caught.value)
    )
    assert json.loads((tmp_path / "run.json").read_text()) == MADE_WITH


def test_settings_without_influence_may_change(tmp_path: Path) -> None:
    saved(tmp_path)
    open_run(tmp_path, {**MADE_WITH, "train": {"steps": 12, "keep": 5}})


def test_of_a_part_that_was_swapped_only_the_name_is_told(tmp_path: Path) -> None:
    film, attention = {"type": "film", "depth": 2}, {"type": "cross_attention", "layers": 1}
    saved(tmp_path, {"policy": {"fusion": film, "keyframe": None, "execute": 4}})
    with pytest.raises(ValueError, match="other settings: ") as error:
        open_run(
            tmp_path, {"policy": {"fusion": attention, "keyframe": {"type": "keyframe", "hidden": 8}, "execute": 2}}
        )
    assert str(error.value).split("settings: ")[1].split(";")[0] == (
        "policy.fusion.type ('film' then, 'cross_attention' now), policy.execute (4 then, 2 now), "
        "policy.keyframe.type (None then, 'keyframe' now)"
    )


@pytest.mark.parametrize("damaged", [False, True])
def test_of_a_calibration_the_next_checkpoint_takes_over_what_is_not_of_the_weights(
    tmp_path: Path, damaged: bool
) -> None:
    policy, score = small_policy(), Score(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 1.0)
    ranges, report = Known((-1.0,) * 8, (1.0,) * 8, policy.tokenizer, {"front": 2.0}), {"false_alarms": 0.01}
    known = Calibration(ranges, Seen((-1.0,) * 7, (1.0,) * 7), {"state": score}, True, report)
    run, state = open_run(tmp_path, keep=1), TrainState.start(tiny.Model(), tiny.CONFIG)
    first = run.save(state)
    known.save(first)
    if damaged:
        (first / "safety.json").write_text("{")
    state.step += 1
    second = run.save(state)
    assert run.checkpoints() == [second]
    if damaged:
        assert not (second / "safety.json").exists()
        return
    taken = Calibration.load(second, policy)
    assert taken == replace(known, scores={})
    assert missing("runs/x", known) is None
    assert "the run went on since the safety envelope was calibrated" in (missing("runs/x", taken) or "")


def test_what_the_data_tell_is_kept_until_there_is_a_calibration(tmp_path: Path) -> None:
    policy, run, state = small_policy(), open_run(tmp_path), TrainState.start(tiny.Model(), tiny.CONFIG)
    run.usual = Calibration(Known((-1.0,), (1.0,), policy.tokenizer, {}), Seen((-1.0,), (1.0,)))
    first = run.save(state)
    assert Calibration.load(first, policy) == run.usual
    calibrated = replace(run.usual, known=replace(run.usual.known, grain={"front": 2.0}), report={"alarms": 0})
    calibrated.save(first)
    state.step += 1
    second = run.save(state)
    assert Calibration.load(second, policy) == calibrated
    (second / "safety.json").write_text("{")
    state.step += 1
    assert Calibration.load(run.save(state), policy) == run.usual


def test_a_run_without_a_checkpoint_may_begin_again_with_other_settings(tmp_path: Path) -> None:
    open_run(tmp_path)
    open_run(tmp_path, {"train": {"steps": 20}})
    assert json.loads((tmp_path / "run.json").read_text()) == {"train": {"steps": 20}}


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"not empty and holds no run"):
        open_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_newest_are_kept_and_an_unfinished_one_is_passed_over(tmp_path: Path) -> None:
    run, state = open_run(tmp_path, keep=2), TrainState.start(tiny.Model(), tiny.CONFIG)
    for step in (1, 2, 10):
        state.step = step
        run.save(state)
    assert [path.name for path in run.checkpoints()] == ["00000002", "00000010"]
    (tmp_path / "checkpoints" / "00000011").mkdir()
    (tmp_path / "checkpoints" / ".00000012.99.tmp").mkdir()
    restored = TrainState.start(tiny.Model(), tiny.CONFIG)
    open_run(tmp_path).resume(restored)
    assert restored.step == 10
    assert not list(tmp_path.glob("checkpoints/.*"))


def test_a_failed_save_keeps_the_older_checkpoint(tmp_path: Path) -> None:
    run, state = open_run(tmp_path, keep=1), TrainState.start(tiny.Model(), tiny.CONFIG)
    run.save(state)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    broken = Run(tmp_path, MADE_WITH, full, keep=1)
    state.step = 5
    with pytest.raises(OSError, match="the disk is full"):
        broken.save(state)
    assert [path.name for path in run.checkpoints()] == ["00000000"]


def test_a_full_disk_is_told_with_what_is_safe(tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    run, state = Run(tmp_path, MADE_WITH, full), TrainState.start(tiny.Model(), tiny.CONFIG)
    state.step = 5
    with pytest.raises(
        OSError, match=r"checkpoints/00000005: the disk is full; nothing is saved yet\. Free some space"
    ):
        run.save(state)
    state.step = 4
    open_run(tmp_path).save(state)
    state.step = 5
    with pytest.raises(OSError, match=r"checkpoints/00000005: the disk is full; step 4 is saved\. Free some space"):
        run.save(state)


@pytest.mark.parametrize("damage", ["[]", None])
def test_missing_settings_are_told_with_the_way_out(tmp_path: Path, damage: str | None) -> None:
    saved(tmp_path)
    (tmp_path / "run.json").write_text(damage) if damage else (tmp_path / "run.json").unlink()
    with pytest.raises(
        ValueError, match=r"run\.json (is missing|holds no settings); restore it from a copy, or say --ou"
    ):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage"), [("training.safetensors", "\0" * 100), ("training.json", "[]"), ("training.json", "{}")]
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str, damage: str) -> None:
    saved(tmp_path)
    (tmp_path / "checkpoints" / "00000000" / name).write_text(damage)
    with pytest.raises(ValueError, match=r"00000000 is damaged .*; delete it to go on"):
        open_run(tmp_path).resume(TrainState.start(tiny.Model(), tiny.CONFIG))
