"""Speed is measured where it matters, and a run that no terminal watches says little."""

import time
from collections.abc import Iterator

import pytest
import torch

from plait.train.progress import Meter, Screen, speed


def test_waiting_for_data_is_told_from_working() -> None:
    def slow() -> Iterator[list[int]]:
        for _ in range(4):
            time.sleep(0.03)
            yield [0] * 5

    meter = Meter()
    for _ in meter.watch(slow()):
        time.sleep(0.01)
        with meter.paused():
            time.sleep(0.05)
    rates = dict(meter.rates())
    assert 0.6 < rates["data_wait"] < 0.9  # 30 of 40 ms; the pause does not count
    assert 60 < rates["samples_per_s"] < 130
    assert dict(meter.rates())["samples_per_s"] == 0


def test_a_gpu_that_still_works_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        """Of an update that takes 0.1 s."""

        def record(self) -> None:
            self.done = time.perf_counter() + 0.1

        def query(self) -> bool:
            return time.perf_counter() >= self.done

        def synchronize(self) -> None:
            time.sleep(max(0.0, self.done - time.perf_counter()))

    def batches(pause: float) -> Iterator[list[int]]:
        for _ in range(4):
            time.sleep(pause)
            yield [0]

    monkeypatch.setattr(torch.cuda, "Event", Event)
    for pause, waits in ((0.02, 1), (0.15, 4)):  # the first batch is always waited for
        meter = Meter(torch.device("cuda"))
        for _ in meter.watch(batches(pause)):
            pass
        assert meter.waited == pytest.approx(waits * pause, rel=0.3)


def test_samples_are_those_of_all_processes_and_mfu_is_that_of_each_gpu() -> None:
    def batches() -> Iterator[list[int]]:
        for _ in range(3):
            time.sleep(0.01)
            yield [0] * 8

    meter = Meter(processes=4, ideal=1e-4)  # a GPU at its peak would do 10,000 samples a second
    for _ in meter.watch(batches()):
        pass
    rates = dict(meter.rates())
    assert 1000 < rates["samples_per_s"] < 3200
    assert rates["mfu"] == pytest.approx(rates["samples_per_s"] / 4 / 10_000)
    assert speed({"samples_per_s": 25_000.0, "data_wait": 0.001, "mfu": 0.25}) == (
        "25,000 samples/s, data wait 0.1%, MFU 25.0%"
    )


def test_without_a_terminal_one_line_per_tenth(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("plait.progress.time.monotonic", lambda: next(clock))
    with Screen(total=100, step=40) as screen:
        for step in range(41, 71):
            screen.show({"step": step, "loss": 0.5, "samples_per_s": 1234.0, "data_wait": 0.25})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: continuing after step 40 of 100"
    speed = "loss 0.5000  1,234 samples/s, data wait 25.0%"
    assert lines[1:] == [f"train: {step} of 100 steps  {speed}" for step in (50, 60, 70)]


def test_a_short_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(total=4, step=0) as screen:
        for step in range(1, 5):
            screen.show({"step": step, "loss": 0.5})
    assert capsys.readouterr() == ("", "")
