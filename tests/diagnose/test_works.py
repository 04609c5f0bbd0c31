from dataclasses import replace

import pytest

from plait.diagnose import works
from plait.diagnose.subject import Subject
from plait.diagnose.works import failures, tone, verdict
from plait.evaluate.statistics import share
from policies import small_policy
from reach_env import ID, REACH, Reach


def test_success_unseen_combinations_and_films_stand_in_the_answer(black_wrist, tmp_path):
    answer = works.ask(replace(black_wrist, folder=tmp_path, episodes=4, _done={}))
    assert answer.verdict == "It succeeds in 4 of 4 new scenes (95 % interval: 51 to 100 %)."
    assert (answer.tone, answer.numbers["failures"]["failed"]) == ("good", 0)
    assert answer.numbers["unseen_combinations"]["n_episodes"] == 4
    assert answer.numbers["protocol"]["env_args"]["cameras"] == ["front", "wrist"]
    assert "".join(answer.parts).count('<img src="data:image/webp;base64,') == 4
    assert (tmp_path / "eval" / "normal" / "eval.json").exists()


def test_what_is_for_contrast_has_its_own_number_of_episodes(black_wrist):
    numbers = works.ask(replace(black_wrist, episodes=4, contrast=2, _done={})).numbers
    assert (numbers["aggregated"]["n_episodes"], numbers["unseen_combinations"]["n_episodes"]) == (4, 2)


def test_an_environment_that_ignores_its_seed_is_told(monkeypatch):
    policy, reset = small_policy(spec=REACH, image_size=16), Reach.reset
    subject = Subject(policy, ID, {}, episodes=2, workers=1)
    told = "this is one scene again and again"
    assert told not in works.ask(subject).verdict
    monkeypatch.setattr(Reach, "reset", lambda self, *, seed=None, options=None: reset(self, seed=0, options=options))
    assert told in works.ask(subject).verdict


def row(phase: str, lifted: str = "", success: bool = False) -> dict:
    return {"success": success, "phase": phase, "target": "red ball", "lifted": lifted}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row("transport", "red ball", success=True)], ""),
        ([row("approach"), row("approach"), row("grasp")], " 2 of 3 failures end before it touches anything."),
        ([row("release", "blue cube"), row("release"), row("approach")], " 2 of 3 failures end after it has let go."),
        ([row("grasp")], " Its one failure ends while it grasps."),
        ([row("approach"), row("grasp")], " One of 2 failures ends before it touches anything."),
        ([row("transport", "blue cube")], " In its one failure it acts on another object than the named one."),
    ],
)
def test_the_verdict_says_where_it_fails(rows, sentence):
    total = {**share(row["success"] for row in rows), "n_episodes": len(rows)}
    assert verdict(total, failures(rows)).endswith("%)." + sentence)


def test_without_facts_nothing_is_said_of_phases():
    rows = [{"success": False}, {"success": True}]
    assert failures(rows) == {"failed": 1, "other_object": 0}
    assert verdict({**share([False, True]), "n_episodes": 2}, failures(rows)).endswith("%).")


@pytest.mark.parametrize(("successes", "expected"), [(95, "good"), (70, "plain"), (10, "bad")])
def test_the_tone_is_that_of_the_figures(successes, expected):
    assert tone(share([True] * successes + [False] * (100 - successes))) == expected


def test_two_of_two_are_no_good_news_yet():
    assert tone(share([True] * 2)) == "plain" and tone(share([True] * 5)) == "good"


def test_nothing_is_called_unseen_where_training_may_have_had_every_combination(black_wrist):
    env_args = black_wrist.env_args | {"combinations": "all"}
    answer = works.ask(replace(black_wrist, env_args=env_args, episodes=2, _done={}))
    assert "unseen_combinations" not in answer.numbers


def test_of_many_tasks_the_worst_ten_are_listed_and_the_others_unfold():
    tasks = {f"task-{n:02}": {**share([True] * n + [False] * (12 - n)), "n_episodes": 12} for n in range(13)}
    listed, _, folded = works._tasks(tasks).partition("<details><summary>3 more tasks</summary>")
    assert "task-00" in listed and "task-09" in listed and "task-10" not in listed
    assert "task-12" in folded and "<details>" not in works._tasks(dict(list(tasks.items())[:10]))


def test_tiers_stand_in_the_order_of_their_difficulty():
    each = {**share([True, False]), "n_episodes": 2}
    groups = {
        "per_tier": dict.fromkeys(("easy", "hard", "medium", "very_hard"), each),
        "per_family": {},
        "per_split": {},
    }
    labels = [bar.label for bar in works._bars({"aggregated": each, **groups})]
    assert labels == ["All scenes", "easy", "medium", "hard", "very hard"]
