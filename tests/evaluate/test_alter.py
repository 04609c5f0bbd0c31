"""What an alteration does to the rows that a policy sees, by itself and in a closed loop with real processes."""

import numpy as np
import pytest

from plait.evaluate.alter import Blanked, Frozen, Removed, Shuffled, Swapped, altering
from plait.evaluate.rollout import evaluate
from plait.types import Observation
from policies import small_policy
from reach_env import ID, REACH

BEGIN, GO_ON = np.ones(3, bool), np.zeros(3, bool)


def moment(number: int, words: tuple[str, ...] = ("go left now", "go right now", "stand still here")) -> Observation:
    """Three rows whose pictures and states tell the row and the moment."""
    values = 10 * np.arange(3) + number
    image = np.broadcast_to(values[:, None, None, None], (3, 2, 2, 3)).astype(np.uint8)
    return Observation({"top": image}, values[:, None].astype(np.float32), list(words))


def shown(observation: Observation) -> tuple[list[int], list[int]]:
    """Of each row: the picture's and the state's number."""
    return observation.images["top"][:, 0, 0, 0].tolist(), observation.state[:, 0].tolist()


def test_what_is_removed_is_marked_absent_and_nothing_else():
    policy = small_policy(spec=REACH, image_size=16)
    removed = altering([Removed("images.top"), Removed("instruction")])(moment(0), BEGIN)
    assert shown(removed) == shown(moment(0))
    assert {name: flags.tolist() for name, flags in removed.present.items()} == {
        "images.top": [False] * 3,
        "instruction": [False] * 3,
    }
    images = {"top": np.zeros((3, 16, 16, 3), np.uint8)}
    both = Observation(images, np.zeros((3, 2)), ["go", "left", "right"], removed.present)
    never = Observation({}, np.zeros((3, 2)), ["", "", ""])
    assert policy.predict(policy.prepare(both)).equal(policy.predict(policy.prepare(never)))


def test_a_blanked_camera_is_black_and_the_original_stays_as_it_is():
    original = moment(5)
    assert shown(Blanked("images.top").build()(original, BEGIN)) == ([0, 0, 0], [5, 15, 25])
    assert shown(original) == ([5, 15, 25], [5, 15, 25])
    with pytest.raises(ValueError, match=r"blanked: 'state' is no camera; name one as in 'images.front'"):
        Blanked("state")


def test_what_is_frozen_stays_as_at_the_episodes_beginning():
    freeze = Frozen("state").build()
    first = freeze(moment(0), BEGIN)
    assert shown(freeze(moment(1), GO_ON)) == ([1, 11, 21], [0, 10, 20])
    assert shown(freeze(moment(2), np.array([False, True, False])))[1] == [0, 12, 20]
    assert shown(freeze(moment(3), GO_ON))[1] == [0, 12, 20]
    assert shown(first)[1] == [0, 10, 20], "what was handed out does not change later"


def test_what_is_swapped_is_that_of_another_row_at_the_same_moment():
    swap = Swapped("images.top").build()
    assert shown(swap(moment(0), BEGIN)) == ([20, 0, 10], [0, 10, 20])
    assert shown(swap(moment(1), GO_ON)) == ([21, 1, 11], [1, 11, 21])


def test_swapped_words_do_not_change_within_an_episode():
    swap = Swapped("instruction").build()
    assert swap(moment(0), BEGIN).instruction == ["stand still here", "go left now", "go right now"]
    later = moment(1, ("go left now", "go up now", "stand still here"))  # row 1 has begun a new episode
    assert swap(later, np.array([False, True, False])).instruction == [
        *("stand still here", "go left now", "go right now"),
    ]
    with pytest.raises(ValueError, match="swapped: state of another episode, but only one runs; run at least 2"):
        Swapped("state").build()(Observation({}, np.zeros((1, 2)), ["go"]), np.ones(1, bool))


def test_shuffled_words_are_the_same_words_in_another_order_every_time():
    words = "take hold of the red cube and lift it"
    (once,), (again,) = (
        Shuffled().build()(Observation({}, None, [words]), np.ones(1, bool)).instruction for _ in range(2)
    )
    assert once == again != words and sorted(once.split()) == sorted(words.split())
    assert Shuffled().build()(Observation({}, None, ["", "go", "go on"]), BEGIN).instruction == ["", "go", "on go"]


def seeing():
    """A policy for ``Reach`` that goes where its words say, as long as it sees and feels that time goes on."""
    policy = small_policy(spec=REACH, image_size=16)

    def predict(inputs):
        left, right = policy.tokenizer.encode(["left right"])[0][0, :2].tolist()
        side = (inputs.words == right).any(dim=1).float() - (inputs.words == left).any(dim=1).float()
        moves = inputs.present["instruction"] & inputs.present["images.top"]
        return (side * moves)[:, None, None].expand(-1, policy.horizon, 1)

    policy.tokenizer = policy.tokenizer.build(["go left", "go right"])
    policy.predict = predict
    return policy


@pytest.mark.parametrize(
    ("alter", "successes"),
    [
        ((), 12),
        ((Frozen("images.top"), Frozen("state"), Blanked("images.top")), 12),
        ((Shuffled(),), 12),
        ((Removed("instruction"),), 0),
        ((Removed("images.top"),), 0),
    ],
)
def test_in_closed_loop_an_alteration_changes_what_the_policy_sees_and_nothing_else(alter, successes):
    result = evaluate(seeing(), ID, episodes=12, slots=5, workers=1, alter=alter, quiet=True)
    assert sum(row["success"] for row in result["per_episode"]) == successes
    assert {row["instruction"] for row in result["per_episode"]} == {"go left", "go right"}


def test_swapped_episodes_are_the_same_whatever_the_workers_and_stand_in_the_protocol():
    alter = (Swapped("instruction"), Frozen("state"))
    runs = [evaluate(seeing(), ID, episodes=12, slots=5, workers=w, alter=alter, quiet=True) for w in (1, 2)]
    assert runs[0]["per_episode"] == runs[1]["per_episode"]
    assert 0 < sum(row["success"] for row in runs[0]["per_episode"]) < 12
    assert runs[0]["protocol"]["alter"] == [
        {"type": "swapped", "modality": "instruction"},
        {"type": "frozen", "modality": "state"},
    ]


def test_a_modality_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"no modality 'images.tip'; choose one of .* Did you mean 'images.top'"):
        evaluate(seeing(), ID, episodes=1, alter=[Removed("images.tip")], quiet=True)
