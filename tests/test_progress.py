from concurrent.futures import ThreadPoolExecutor

import pytest

from plait.progress import Bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is."""
    now = [0.0]
    monkeypatch.setattr("plait.progress.time.monotonic", lambda: now[0])
    return now


def test_away_from_a_terminal_there_is_a_line_per_tenth_and_nothing_else(
    capsys: pytest.CaptureFixture[str], clock: list[float]
):
    with Bar("recording", 40, "episodes", completed=30) as bar:
        for done in range(31, 41):
            clock[0] += 6
            bar.advance(status=f"{done} frames/s")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "recording: 32 of 40 episodes  32 frames/s",
        "recording: 36 of 40 episodes  36 frames/s",
        "recording: 40 of 40 episodes  40 frames/s",
    ]


def test_between_two_lines_are_ten_seconds(capsys: pytest.CaptureFixture[str], clock: list[float]):
    with Bar("recording", 10, "episodes") as bar:
        for _ in range(10):
            clock[0] += 4
            bar.advance()
    told = capsys.readouterr().err.splitlines()
    assert told == [f"recording: {done} of 10 episodes" for done in (3, 6, 9)]


def test_a_short_job_says_nothing(capsys: pytest.CaptureFixture[str]):
    with Bar("decoding", 4, "images") as bar:
        for _ in range(4):
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]):
    with Bar("evaluating", 2, "episodes", quiet=True) as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


def test_threads_may_share_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("plait.progress.PAUSE", 0.0)
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
