import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from plait.control import Controller
from plait.encoders.recall import Recall
from plait.fusion import UnifiedConfig
from plait.heads import DiscreteConfig
from plait.heads.keyframe import KeyframeConfig
from plait.memory import Memory, MemoryAttentionConfig, RecurrentConfig
from plait.policy import Policy, PolicyConfig
from plait.spec import Spec
from plait.types import Observation
from policies import SPEC, random_batch, random_observation, small_policy


def test_one_image_and_a_sentence_in_named_parts_out() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    with pytest.warns(UserWarning):  # wrist and state are absent
        action = small_policy().act({"front": image}, "pick up the red ball")
    assert action.chunk.shape == (8, 7)
    assert action.position.shape == action.rotation.shape == (3,)
    assert action.gripper == action.named["gripper"] == pytest.approx(action.chunk[0, 6])


def test_actions_come_back_in_the_units_of_the_data() -> None:
    policy = small_policy()
    inputs = policy.prepare(random_observation())
    before = policy.predict(inputs)
    policy.normalise_action.mean += 10
    torch.testing.assert_close(policy.predict(inputs), before + 10)


def test_the_state_is_normalised_before_it_is_used() -> None:
    policy = small_policy()
    observation = random_observation()
    shifted = replace(observation, state=observation.state * 3 + 5)
    expected = policy.predict(policy.prepare(observation))
    policy.normalise_state.mean.fill_(5), policy.normalise_state.std.fill_(3)
    torch.testing.assert_close(policy.predict(policy.prepare(shifted)), expected, atol=1e-5, rtol=1e-4)


def test_the_auxiliary_loss_joins_with_its_weight() -> None:
    policy = small_policy(keyframe=KeyframeConfig(weight=0.5))
    losses = policy.loss(random_batch(policy))
    torch.testing.assert_close(losses["loss"], losses["action"] + 0.5 * losses["keyframe"])


@pytest.mark.parametrize(
    "spec",
    [
        Spec(cameras={"top": (32, 32)}, state=(), actions=("a", "b")),
        Spec(cameras={f"c{i}": (32, 32) for i in range(4)}, state=tuple("abc"), actions=("x",)),
        Spec(cameras={}, state=tuple("abc"), actions=("x", "y")),
    ],
    ids=["no state", "four cameras", "no camera"],
)
def test_any_embodiment(spec: Spec) -> None:
    policy = small_policy(spec=spec)
    assert policy.predict(policy.prepare(random_observation(spec=spec))).shape == (3, 8, len(spec.actions))


def test_a_state_that_is_not_finite_is_refused_where_it_is_present() -> None:
    policy, observation = small_policy(), random_observation()
    observation.state[1, 2] = float("inf")
    with pytest.raises(ValueError, match="state: z is inf; each entry must be finite"):
        policy.prepare(observation)
    policy.prepare(replace(observation, present={"state": torch.tensor([True, False, True])}))


def told(policy: Policy, *arguments: Any) -> list[str]:
    """What ``act`` warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy.act(*arguments)
    return [str(each.message) for each in caught]


def test_what_is_left_out_or_unknown_is_warned_of_once_for_each_cause() -> None:
    policy, picture, state = small_policy(), np.zeros((32, 32, 3), np.uint8), np.zeros(8)
    both, words = {"front": picture, "wrist": picture}, "pick up the red ball"
    assert told(policy, both, words, state) == []
    (line,) = told(policy, both, words)
    assert "the state (8 entries: x, y, z, rx, ry, rz, finger_left, finger_right); a learned token" in line
    assert told(policy, both, words) == [], "known by now"
    (line,) = told(policy, {}, words, state)
    assert "left out, though the policy was trained with it: camera front, camera wrist; " in line
    (line,) = told(policy, both, "pick up the pink ball", state)
    assert line.startswith("words that training never saw: pink; ")
    (line,) = told(policy, both, "pick up the blue ball", state)
    assert line.startswith("words that training never saw: blue; "), "another word is another cause"
    (line,) = told(policy, both, " ", state)
    assert ": the instruction; " in line


def test_a_picture_of_another_shape_is_warned_of_and_one_of_another_size_is_not() -> None:
    policy, state = small_policy(), np.zeros(8)
    square, nearly = np.zeros((480, 480, 3), np.uint8), np.zeros((33, 32, 3), np.uint8)
    assert told(policy, {"front": square, "wrist": nearly}, "pick up the red ball", state) == []
    wide = np.zeros((48, 64, 3), np.uint8)
    (line,) = told(policy, {"front": square, "wrist": wide}, "pick up the red ball", state)
    assert line.startswith("camera 'wrist': pictures of 48 x 64 (height x width) have another shape than those of the ")
    assert "training, 32 x 32" in line


def test_training_and_control_with_what_is_missing_warn_of_nothing() -> None:
    policy = small_policy()
    observation = Observation({}, None, ["pink", "", "pick"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.predict(policy.prepare(observation))
        Controller(policy, rows=3).plan(observation)
        policy.loss(replace(random_batch(policy), inputs=policy.prepare(observation)))


def test_a_file_name_is_no_image() -> None:
    with pytest.raises(ValueError, match=r"image 'front' is str: expected uint8 \[height, width, 3\]"):
        small_policy().act({"front": "a.png"}, "pick up the red ball")


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    policy = small_policy()
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"no camera 'side'; choose one of \['front', 'wrist'\]"):
        policy.act({"side": image}, "pick up the red ball")
    with pytest.raises(ValueError, match="state of 3 entries: this policy was trained with 8"):
        policy.act({"front": image}, "pick up the red ball", [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="float32: expected"):
        policy.act({"front": image.astype(np.float32)}, "pick up the red ball")
    with pytest.raises(ValueError, match="execute: 9 is not between 1 and action_horizon"):
        PolicyConfig(execute=9)
    with pytest.raises(ValueError, match=r"head\.form: 'tokens' with a memory: step k"):
        PolicyConfig(memory=RecurrentConfig(), fusion=UnifiedConfig(actions=8), head=DiscreteConfig(form="tokens"))


def test_an_empty_instruction_is_an_absent_one() -> None:
    policy = small_policy()
    observation = random_observation(rows=1)
    spoken = policy.prepare(observation)
    silent = policy.prepare(Observation(observation.images, observation.state, [""]))
    assert spoken.present["instruction"].all() and not silent.present["instruction"].any()
    muted = replace(spoken, present=spoken.present | {"instruction": torch.tensor([False])})
    torch.testing.assert_close(policy.predict(silent), policy.predict(muted))


@pytest.mark.parametrize("memory", [RecurrentConfig(steps=3), MemoryAttentionConfig(steps=3)], ids=str)
def test_a_window_in_training_gives_what_acting_through_it_gives(memory: Memory) -> None:
    policy = small_policy(memory=memory)
    inputs = policy.prepare(random_observation(rows=6))  # two rows of three moments; the second begins at its second
    window = torch.tensor([[True, True, True], [False, True, True]])
    trained = policy.predict(replace(inputs, window=window))
    state = policy.start(2)
    for moment in range(3):
        now = policy.prepare(_rows(random_observation(rows=6), [moment, 3 + moment]))
        acted, state = policy.step(now, state, torch.tensor([False, moment == 1]))
    torch.testing.assert_close(acted, trained)
    alone, _ = policy.step(now, policy.start(2), torch.tensor([False, False]))
    assert not torch.allclose(alone, trained, atol=1e-4)
    torch.testing.assert_close(alone, policy.predict(now))  # without a window: the first moment of an episode


def _rows(observation: Observation, rows: list[int]) -> Observation:
    images = {camera: image[rows] for camera, image in observation.images.items()}
    return Observation(images, observation.state[rows], [observation.instruction[row] for row in rows])


def test_the_loss_is_that_of_the_last_moment_of_each_window() -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3), keyframe=None)
    batch = random_batch(policy, rows=2)
    error = (policy.predict(batch.inputs) - batch.action).abs().mean(dim=-1)
    expected = (error * batch.action_mask).sum() / batch.action_mask.sum()
    torch.testing.assert_close(policy.loss(batch)["loss"], expected)


def test_without_a_memory_every_step_is_a_first_one() -> None:
    policy = small_policy()
    inputs = policy.prepare(random_observation())
    chunk, state = policy.step(inputs, policy.start(3), torch.zeros(3, dtype=torch.bool))
    assert state is None and policy.moments == 1 and torch.equal(chunk, policy.predict(inputs))


def test_the_spec_says_what_differs() -> None:
    other = replace(SPEC, cameras={"front": (480, 640)}, gripper="positive_opens", rate=None)
    assert SPEC.differences(other, "the policy", "the dataset") == [
        "camera 'wrist': in the policy, not in the dataset",
        "gripper: the policy has 'positive_closes', the dataset has 'positive_opens'",
    ]
    assert SPEC.differences(SPEC) == []


def test_words_that_are_told_are_not_encoded_again(monkeypatch):
    policy = small_policy().eval()
    inputs = policy.prepare(random_observation(2))
    recall, encoded = Recall(policy.encoder.language), []
    told = policy.tell(inputs, recall)
    torch.testing.assert_close(policy.predict(told), policy.predict(inputs))
    forward = policy.encoder.language.forward
    monkeypatch.setattr(policy.encoder.language, "forward", lambda *given: encoded.append(given) or forward(*given))
    policy.predict(policy.tell(inputs, recall))
    assert not encoded, "the sentences were known, and the policy did not ask the encoder"
    policy.predict(inputs)
    assert len(encoded) == 1


def test_a_converted_policy_is_the_one_under_autocast_wherever_it_is_entered() -> None:
    for memory in (None, RecurrentConfig(steps=3)):
        policy = small_policy(memory=memory)
        inputs, begins = policy.prepare(random_observation(2)), torch.tensor([True, True])
        exact = policy.predict(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            wanted = policy.predict(inputs), policy.step(inputs, policy.start(2), begins)[0]
        policy.convert("bfloat16")
        found = policy.predict(inputs), policy.step(inputs, policy.start(2), begins)[0]
        for each, other in zip(found, wanted, strict=True):
            assert torch.equal(each, other) and each.dtype == torch.float32
        assert not torch.equal(found[0], exact), "it was multiplied in another format"
        assert torch.equal(policy.predict(policy.tell(inputs, Recall(policy.encoder.language))), found[0])
