"""What a policy uses and what it ignores, of policies that were really trained; and what other cases are called."""

import json
from dataclasses import replace

import pytest

from plait.diagnose import modalities
from plait.diagnose.modalities import COLUMN, judge
from plait.diagnose.response import Response
from plait.evaluate.statistics import share
from plait.train.imbalance import PREDICTION


def test_a_policy_trained_with_a_black_camera_does_not_use_it(black_wrist):
    answer = modalities.ask(black_wrist)
    assert answer.verdict == (
        "It does not use the wrist camera or the state: with another episode's, success goes from 100 to 100 and "
        "100 %. It needs the front camera and the words: with another episode's, success goes from 100 to {:.0f} and "
        "{:.0f} %."
    ).format(*(answer.numbers["altered"][name]["swapped"]["pc_success"] for name in ("images.front", "instruction")))
    assert answer.tone == "bad"
    assert "Train with <code>--train.imbalance-every 50</code> to record it." in answer.parts[-1]
    changes, values = answer.numbers["change_of_actions"], answer.numbers["shapley"]
    assert changes["images.wrist"]["high"] < 0.05 < 0.5 < changes["images.front"]["low"]
    assert abs(values["images.wrist"]["points"]) < 10 < values["images.front"]["low"]
    assert sum(value["points"] for value in values.values()) == pytest.approx(
        answer.numbers["normal"]["pc_success"] - nothing(black_wrist), abs=1e-3
    )
    assert list(answer.numbers["altered"]["images.wrist"]) == ["removed", "blanked", "frozen", "swapped"]
    assert list(answer.numbers["altered"]["instruction"]) == ["removed", "swapped"]


def test_of_sound_demonstrations_it_uses_both_cameras_and_the_words(sound):
    """What the faults below are told apart from."""
    answer = modalities.ask(sound)
    assert answer.verdict.startswith("It does not use the state: ") and answer.numbers["normal"]["pc_success"] == 100
    changes = answer.numbers["change_of_actions"]
    assert min(changes[name]["low"] for name in ("images.front", "images.wrist", "instruction")) > 0.15


def test_a_policy_trained_with_shuffled_instructions_does_not_use_the_words(shuffled):
    """Nor the picture, which tells nothing without them."""
    answer = modalities.ask(shuffled)
    success = answer.numbers["normal"]["pc_success"]
    swapped = [answer.numbers["altered"][name]["swapped"]["pc_success"] for name in ("images.front", "instruction")]
    assert answer.verdict.startswith(
        "It does not use the front camera or the words: with another episode's, success goes from "
        "{:.0f} to {:.0f} and {:.0f} %.".format(success, *swapped)
    )
    assert answer.tone == "bad" and success < 80
    changes = answer.numbers["change_of_actions"]
    assert max(changes[name]["high"] for name in ("images.front", "instruction")) < 0.1 < 0.9 < changes["state"]["low"]


def test_a_policy_whose_camera_told_something_else_in_training_is_misled_by_it(false_wrist):
    answer = modalities.ask(false_wrist)
    success = answer.numbers["normal"]["pc_success"]
    removed = answer.numbers["altered"]["images.wrist"]["removed"]["pc_success"]
    assert answer.verdict.startswith(
        f"The wrist camera misleads it: with it removed, success goes from {success:.0f} to {removed:.0f} %."
    )
    assert answer.tone == "bad" and success < 70 and removed > 90


def nothing(subject):
    """Success in percent with every modality removed, as ``shapley`` has measured it."""
    (found,) = (found for key, found in subject._done.items() if key.count("Removed") == 4)
    return found["aggregated"]["pc_success"]


def test_a_policy_with_the_state_only_uses_neither_words_nor_camera(state_only, tmp_path):
    rows = [{"step": step, COLUMN + "state": 0.9, COLUMN + "instruction": 0.1} for step in (1, 50)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = modalities.ask(replace(state_only, run=tmp_path))
    assert answer.verdict.startswith("It does not use the front camera or the words: with another episode's, success")
    changes = answer.numbers["change_of_actions"]
    assert changes["state"]["low"] > 0.9 and max(changes[m]["high"] for m in ("images.front", "instruction")) < 0.1
    assert answer.numbers["shapley"]["state"]["low"] > 0
    assert "the state from 0.9 to 0.9" in answer.parts[-1] and COLUMN == PREDICTION


def summary(successes: int) -> dict:
    return share([True] * successes + [False] * (50 - successes))


def altered(**changed: dict[str, int]) -> dict:
    ways = {"removed": 45, "swapped": 45}
    return {name: {way: summary(n) for way, n in (ways | changed.get(name, {})).items()} for name in NAMES}


NAMES = ("state", "instruction")
SOME, NONE = Response(0.5, 0.4, 0.6), Response(0.02, 0.01, 0.03)


@pytest.mark.parametrize(
    ("normal", "found", "followed", "verdict", "tone"),
    [
        (45, altered(state={"removed": 15, "swapped": 10}, instruction={"swapped": 5, "removed": 9}), (SOME, SOME),
         "It needs the state and the words: with another episode's, success goes from 90 to 20 and 10 %.", "good"),
        (45, altered(state={"removed": 43, "swapped": 10}, instruction={"swapped": 5, "removed": 9}), (SOME, SOME),
         "It needs the words: with another episode's, success goes from 90 to 10 %. It follows the state (with another "
         "episode's, success goes from 90 to 20 %), but can do without: 86 % remain.", "good"),
        (12, altered(state={"removed": 8, "swapped": 1}, instruction={"removed": 12, "swapped": 12}), (SOME, SOME),
         "It follows the state (with another episode's, success goes from 24 to 2 %); whether it can do without is not "
         "clear: 16 % remain.", "good"),
        (12, altered(state={"removed": 8, "swapped": 8}, instruction={"removed": 12, "swapped": 12}), (SOME, SOME),
         "These are too few episodes to tell what success rests on; its actions follow the state (0.50)", "plain"),
        (10, altered(state={"removed": 40, "swapped": 12}, instruction={"removed": 9, "swapped": 9}), (SOME, SOME),
         "The state misleads it: with it removed, success goes from 20 to 80 %.", "bad"),
        (1, altered(state={"removed": 0, "swapped": 1}, instruction={"removed": 0, "swapped": 0}), (SOME, NONE),
         "It does not use the words: that of another moment moves its actions by 0.02", "bad"),
        (1, altered(state={"removed": 0, "swapped": 1}, instruction={"removed": 0, "swapped": 0}), (SOME, SOME),
         "It succeeds too rarely to tell what success rests on; its actions follow the state (0.50) and", "plain"),
        (45, altered(), (SOME, SOME), "It can do without any one of them; its actions follow the state", "plain"),
    ],
)  # fmt: skip
def test_the_verdict_names_what_misleads_what_is_ignored_and_what_is_needed(normal, found, followed, verdict, tone):
    text, told = judge(summary(normal), found, dict(zip(NAMES, followed, strict=True)))
    assert text.startswith(verdict) and told == tone


def test_nothing_is_told_of_words_that_never_change():
    """Of a robot with one task: that its words decide nothing is no fault of the policy."""
    text, tone = judge(summary(45), altered(state={"swapped": 10, "removed": 12}), {"state": SOME})
    assert text.startswith("It needs the state: ") and tone == "good"
    assert text.endswith(" Nothing can be told of the words, the same in all scenes.")
    text, tone = judge(summary(45), altered(), {})
    assert (text, tone) == ("Nothing can be told of the state and the words, the same in all scenes.", "plain")


def test_only_what_differs_between_moments_is_exchanged(monkeypatch, state_only):
    seen = modalities.moments(replace(state_only, episodes=4))
    told = replace(seen, instruction=["go to the red side"] * len(seen))
    monkeypatch.setattr(modalities, "moments", lambda subject: told)
    assert list(modalities.follows(state_only)) == ["images.front", "state"]
