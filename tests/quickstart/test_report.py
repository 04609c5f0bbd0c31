import pytest

from plait.quickstart.report import duration, verdict


@pytest.mark.parametrize(
    ("success", "obeyed", "sentence"),
    [
        (96.4, 95.5, "The policy that you have just trained picks up what it is told to in 96 of 100 new scenes."),
        (96.4, 31.0, "The policy succeeds in 96 of 100 new scenes, but follows changed words only in 31."),
        (50.0, 50.0, "The policy has not learned the task yet: it succeeds in 50 of 100 new scenes."),
    ],
)
def test_the_verdict_is_as_good_as_the_figures(success, obeyed, sentence):
    assert verdict({"normal": {"pc_success": success}, "exchanged": {"pc_named": obeyed}}) == sentence


def test_durations_are_read_at_a_glance():
    assert [duration(seconds) for seconds in (0.4, 59.6, 252.3)] == ["0 s", "1 min 0 s", "4 min 12 s"]
