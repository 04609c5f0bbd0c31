from plait.quickstart.report import duration


def test_durations_are_read_at_a_glance():
    assert [duration(seconds) for seconds in (0.4, 59.6, 252.3)] == ["0 s", "1 min 0 s", "4 min 12 s"]
