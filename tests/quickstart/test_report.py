import pytest

from plait.quickstart.report import duration, verdict


@pytest.mark.parametrize(
    ("success", "obeyed", "sentence"),
    [
        (96.67, 95.0, "The policy that you have just trained picks up what it is told to in 29 of 30 new scenes."),
        (96.67, 30.0, "The policy succeeds in 29 of 30 new scenes, but follows changed words only in 6 of 20."),
        (0.0, 50.0, "The policy has not learned the task yet: it succeeds in 0 of 30 new scenes."),
    ],
)
def test_the_verdict_is_as_good_as_the_figures(success, obeyed, sentence):
    normal, exchanged = {"pc_success": success, "n_episodes": 30}, {"pc_named": obeyed, "n_episodes": 20}
    assert verdict({"normal": normal, "exchanged": exchanged}) == sentence


def test_durations_are_read_at_a_glance():
    assert [duration(seconds) for seconds in (0.4, 59.6, 252.3)] == ["0 s", "1 min 0 s", "4 min 12 s"]
