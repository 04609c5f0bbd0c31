from concurrent.futures import ThreadPoolExecutor

import pytest

from plait.progress import Bar


def test_away_from_a_terminal_there_is_a_line_per_tenth_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    with Bar("recording", 40, "episodes", completed=30) as bar:
        for done in range(31, 41):
            bar.advance(status=f"{done} frames/s")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "recording: 32 of 40 episodes  32 frames/s",
        "recording: 36 of 40 episodes  36 frames/s",
        "recording: 40 of 40 episodes  40 frames/s",
    ]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]):
    with Bar("evaluating", 2, "episodes", quiet=True) as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


def test_threads_may_share_it(capsys: pytest.CaptureFixture[str]):
    with Bar("decoding", 1000, "images") as bar, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: bar.advance(), range(1000)))
    assert bar.completed == 1000
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with Bar("recording", 4, "episodes") as bar:
        bar.advance(3, "7 frames/s")
    told = capsys.readouterr().err
    assert "recording" in told and "━" in told and "of 4" not in told
