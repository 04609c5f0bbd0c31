"""The loop: it learns, it reports, and it resumes to the same losses bit for bit, whatever stopped it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import tiny
from plait.train.state import TrainState, compiled
from plait.train.tracker import read_log

LOSSES = ("loss", "error", "size", "grad_norm", "validation/loss")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, list[dict[str, float]]]:
    """The state and the losses of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return tiny.train(folder), losses(folder)


def losses(folder: Path) -> list[dict[str, float]]:
    return [{name: row[name] for name in ("step", *LOSSES) if name in row} for row in read_log(folder)]


def signals_at(step: int, number: signal.Signals) -> tiny.Source:
    return tiny.Source(before=lambda now: os.kill(os.getpid(), number) if now == step else None)


def assert_same(state: TrainState, other: TrainState) -> None:
    for mine, theirs in ((state.model, other.model), (state.ema.model, other.ema.model)):
        for name, value in mine.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name


def test_loss_falls(tmp_path: Path) -> None:
    class Same(tiny.Source):
        def batch(self, step: int) -> tiny.Pair:
            return super().batch(0)

    tiny.train(tmp_path, replace(tiny.CONFIG, steps=150, learning_rate=1e-2, ema_decay=0.5), Same())
    rows = read_log(tmp_path)
    assert rows[-1]["error"] < 0.5 * rows[0]["error"]
    assert rows[-1]["validation/error"] < rows[5]["validation/error"]  # of the average, without dropout


def test_every_step_is_logged_once_with_all_parts(whole: tuple[TrainState, list[dict[str, float]]]) -> None:
    _, rows = whole
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all(row["loss"] == pytest.approx(row["error"] + 0.1 * row["size"]) for row in rows)
    assert [row["step"] for row in rows if "validation/loss" in row] == [6, 12]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_resumes_exactly(whole, tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt, match="step 6 of 12 is saved"):
        tiny.train(tmp_path, source=signals_at(5, number))
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["00000004", "00000006"]
    state = tiny.train(tmp_path)
    assert losses(tmp_path) == whole[1]
    assert_same(state, whole[0])


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    def twice(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tiny.train(tmp_path, source=tiny.Source(before=twice))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000004"]


def test_killed_run_resumes_exactly(whole, tmp_path: Path) -> None:
    command = [sys.executable, tiny.__file__, str(tmp_path), "0.2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(tiny.__file__).parent)
    deadline = time.monotonic() + 60
    while not len(read_log(tmp_path)) > 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 4 < len(read_log(tmp_path)) < 12, "killed between the checkpoint of step 4 and the end"
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 99, "lo')  # as if the kill had cut a line
    state = tiny.train(tmp_path)
    assert losses(tmp_path) == whole[1]
    assert_same(state, whole[0])


def test_finished_run_does_nothing(tmp_path: Path) -> None:
    tiny.train(tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    state = tiny.train(tmp_path, source=signals_at(0, signal.SIGTERM))  # would be noticed if a batch were asked for
    assert state.step == 12
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_broken_loss_is_named_and_never_saved(tmp_path: Path) -> None:
    class Broken(tiny.Source):
        def batch(self, step: int) -> tiny.Pair:
            pair = super().batch(step)
            return tiny.Pair(pair.x, pair.y * float("nan")) if step == 6 else pair

    with pytest.raises(FloatingPointError, match="nan at step 7"):
        tiny.train(tmp_path, source=Broken())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000004"]


def test_bfloat16_learns_almost_the_same(whole, tmp_path: Path) -> None:
    tiny.train(tmp_path, replace(tiny.CONFIG, precision="bfloat16"))
    mine, theirs = read_log(tmp_path)[-1]["loss"], whole[1][-1]["loss"]
    assert mine != theirs
    assert mine == pytest.approx(theirs, rel=0.05)


class Elsewhere(Exception):
    """As torch raises what went wrong in a process that compiled."""

    details = "Traceback\n  File x\nRuntimeError: no nvcc"


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (RuntimeError("Failed to find C compiler.\nlong story"), r"RuntimeError: Failed to find C compiler\."),
        (Elsewhere("An exception occurred in a subprocess:"), "Elsewhere: RuntimeError: no nvcc"),
        (OSError(), "OSError: no reason is given"),
    ],
    ids=str,
)
def test_a_loss_that_cannot_be_compiled_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, told: str
) -> None:
    def broken(*_: object) -> None:
        raise cause

    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=broken))
    with pytest.raises(ValueError, match=rf"^train\.compile: {told}; .* say --train\.no-compile$"):
        compiled(lambda batch: {"loss": batch.sum()})(torch.ones(3))


def test_memory_that_is_not_there_is_no_fault_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=broken))
    with pytest.raises(torch.OutOfMemoryError):
        compiled(lambda batch: {"loss": batch.sum()})(torch.ones(3))


def test_on_a_cpu_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.compile", lambda *_, **__: pytest.fail("compiled"))
    tiny.train(tmp_path, replace(tiny.CONFIG, compile=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_on_a_gpu_it_learns_and_resumes(tmp_path: Path, cuda_graph: bool, compile: bool) -> None:
    config = replace(tiny.CONFIG, device="cuda", precision="bfloat16", compile=compile, cuda_graph=cuda_graph)
    whole = tiny.train(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(tmp_path / "run", config, source=signals_at(5, signal.SIGINT))
    state = tiny.train(tmp_path / "run", config)
    for name, value in state.ema.model.state_dict().items():
        assert value.is_cuda and torch.allclose(value, whole.ema.model.state_dict()[name], atol=1e-3), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_update_trains_as_a_launched_one(tmp_path: Path) -> None:
    for name, graph in (("launched", False), ("recorded", True)):
        tiny.train(tmp_path / name, replace(tiny.CONFIG, device="cuda", cuda_graph=graph))
    rows = zip(losses(tmp_path / "launched"), losses(tmp_path / "recorded"), strict=True)
    for launched, recorded in rows:
        assert recorded == pytest.approx(launched, rel=1e-2, abs=1e-3)
