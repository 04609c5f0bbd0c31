"""Obeying and deaf policies, really trained, are told apart by verdict and number; and what other cases are called."""

from dataclasses import replace

import pytest

from plait.diagnose import listens, modalities
from plait.diagnose.listens import judge
from plait.diagnose.response import Response
from plait.diagnose.subject import Subject
from plait.evaluate.statistics import share
from plait.spec import INSTRUCTION
from policies import small_policy
from reach_env import ID, REACH


def test_a_policy_that_obeys_is_called_so(black_wrist):
    answer = listens.ask(black_wrist)
    assert answer.verdict == "It listens: with another object named, it acts on that one in 20 of 20 scenes."
    assert answer.tone == "good"
    change = answer.numbers["change_of_first_actions"]
    assert change["exchanged"]["low"] > 0.5
    assert change["paraphrase"]["high"] < change["exchanged"]["low"]
    assert answer.numbers["exchanged"]["pc_first_named"] == answer.numbers["exchanged"]["pc_kept"] == 0
    assert answer.numbers["absent"]["pc_success"] < 80 < answer.numbers["normal"]["pc_success"]


def test_the_verdict_rests_on_all_scenes_and_the_contrasts_on_fewer(black_wrist, tmp_path):
    answer = listens.ask(replace(black_wrist, episodes=4, contrast=2, folder=tmp_path, _done={}))
    counted = {
        name: answer.numbers[name]["n_episodes"] for name in ("normal", *listens.TRIALS) if name in answer.numbers
    }
    assert counted == {"normal": 4, "exchanged": 4, "absent": 2, "shuffled": 2, "paraphrase": 2}
    assert "".join(answer.parts).count('<img src="data:image/webp;base64,') == listens.FILMS


@pytest.mark.parametrize("name", ["shuffled", "state_only"])
def test_a_policy_trained_with_shuffled_instructions_or_with_the_state_alone_is_called_deaf(name, request):
    answer = listens.ask(request.getfixturevalue(name))
    said = "It ignores the words: with another object named, it still acts on the same one in "
    assert answer.verdict.startswith(said) and answer.tone == "bad"
    assert answer.numbers["exchanged"]["pc_kept"] > 80
    assert answer.numbers["change_of_first_actions"]["exchanged"]["high"] < 0.1
    assert "Instruction exchanged" in answer.parts[0]


def test_in_a_foreign_environment_the_words_of_another_scene_tell():
    policy = small_policy(spec=REACH, image_size=16)
    policy.predict = lambda inputs: inputs.state[:, None, :1].sign().expand(-1, policy.horizon, -1)
    answer = listens.ask(Subject(policy, ID, {}, episodes=12, workers=1))
    assert answer.verdict.startswith("It ignores the words: with the words of another scene, success goes from 58 to")
    assert "other words move its first actions 0.00 times as far (95 % interval: 0.00 to 0.00)" in answer.verdict
    changes = {"change_of_first_actions", "change_of_actions"}
    assert set(answer.numbers) == {"normal", "swapped", "absent", "shuffled"} | changes


def response(change: float) -> Response:
    return Response(change, change - 0.01, change + 0.01)


def by_object(named: int, first: int, kept: int, n: int = 50, acted: int = 50) -> dict:
    shares = {**share([True] * named + [False] * (n - named), "pc_named")}
    shares |= share([True] * first + [False] * (n - first), "pc_first_named")
    return {**shares, **share([True] * kept + [False] * (acted - kept), "pc_kept"), "n_kept": acted, "n_episodes": n}


@pytest.mark.parametrize(
    ("exchanged", "change", "verdict", "tone"),
    [
        (by_object(2, 48, 48), 0.02, "It ignores the words: with another object named, it still acts on", "bad"),
        (by_object(10, 11, 0, acted=0), 0.02, "It ignores the words: other words move its first actions", "bad"),
        (by_object(24, 8, 10), 0.4, "It listens in part: with another object named, it acts on that", "plain"),
        (by_object(1, 1, 0, acted=2), 0.9, "Its first actions follow the words, but with another object named", "bad"),
        (by_object(9, 8, 9, acted=20), 0.15, "Whether it listens is not clear: with another object named,", "plain"),
        (by_object(3, 0, 0, n=4, acted=4), 0.9, "Whether it listens is not clear: with another object", "plain"),
        (by_object(10, 11, 3, acted=20), 0.02, "It ignores the words: other words move its first actions", "bad"),
    ],
)  # fmt: skip
def test_what_it_acts_on_decides(exchanged, change, verdict, tone):
    text, found = judge({"normal": {}, "exchanged": exchanged}, {"exchanged": response(change)})
    assert text.startswith(verdict) and found == tone


FOLLOWED = [(None, False), (0.05, True), (0.145, False), (0.4, False)]  # 0.145: not surely below IGNORED


@pytest.mark.parametrize(("followed", "deaf"), FOLLOWED)
def test_what_hardly_responds_to_anything_is_not_said_to_follow_the_words(followed, deaf):
    """Another scene moves its first actions as little as other words do; both verdicts are of one policy."""
    told = None if followed is None else response(followed)
    for found, follows in (
        (by_object(0, 0, 0, n=8, acted=0), "Its first actions follow the words, but with another object named, it"),
        (success(45, 44), "Its first actions follow the words, but success does not surely: with the words of"),
    ):
        numbers = found if "normal" in found else {"normal": {}, "exchanged": found}
        text, tone = judge(numbers, {name: response(0.36) for name in numbers}, told)
        assert text.startswith("It ignores the words: " if deaf else follows)
        assert not deaf or (tone == "bad" and "move its actions 0.05 times as far" in text)
        if followed is not None:
            uses = modalities.judge(share([False] * 8, "pc_success"), unaltered(), {INSTRUCTION: told})[0]
            assert uses.startswith("It does not use the words: that of another moment moves its actions by") == deaf


@pytest.mark.parametrize("exchanged", [by_object(45, 0, 0), by_object(24, 8, 10)])
def test_what_it_acts_on_counts_for_more_than_how_far_its_actions_move(exchanged):
    text, tone = judge({"normal": {}, "exchanged": exchanged}, {"exchanged": response(0.4)}, response(0.05))
    assert text.startswith("It listens") and tone != "bad"


def unaltered() -> dict:
    return {INSTRUCTION: dict.fromkeys(("removed", "swapped"), share([False] * 8, "pc_success"))}


def success(before: int, after: int, name: str = "exchanged", n: int = 50) -> dict:
    rates = (share([True] * count + [False] * (n - count)) for count in (before, after))
    return dict(zip(("normal", name), rates, strict=True))


def test_where_all_scenes_have_the_same_words_there_is_nothing_to_listen_to():
    text, found = judge({"normal": {}, "exchanged": by_object(1, 1, 1)}, {})
    assert (text, found) == ("There is nothing to listen to: all scenes have the same words.", "plain")


@pytest.mark.parametrize(
    ("successes", "change", "verdict", "tone"),
    [
        (
            45,
            0.02,
            "It ignores the words: with the words of another scene, success goes from 90 to 90 %, and other",
            "bad",
        ),
        (10, 0.9, "It listens: with the words of another scene, success goes from 90 to 20 %.", "good"),
        (44, 0.3, "Its first actions follow the words, but success does not surely: with the words of", "plain"),
        (45, 0.15, "Whether it listens is not clear: with the words of another scene, success goes from 90", "plain"),
    ],
)
def test_where_nobody_tells_what_was_moved_success_decides(successes, change, verdict, tone):
    text, found = judge(success(45, successes, "swapped"), {"swapped": response(change)})
    assert text.startswith(verdict) and found == tone


@pytest.mark.parametrize(("name", "whose"), [("exchanged", "another task"), ("swapped", "another scene")])
def test_the_verdict_says_whose_words_they_were(name, whose):
    text, _ = judge(success(45, 10, name), {name: response(0.9)})
    assert text == f"It listens: with the words of {whose}, success goes from 90 to 20 %."
