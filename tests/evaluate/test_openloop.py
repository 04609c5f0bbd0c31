"""Open-loop errors against values worked out by hand, on a real dataset on disk."""

import json

import numpy as np
import pytest
import torch

from plait import checkpoint
from plait.cli.evaluate import SEEN, open_loop_lines
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.loader import held_out
from plait.data.writer import DatasetWriter
from plait.evaluate.openloop import openloop, validation_share
from plait.memory import RecurrentConfig
from plait.spec import Spec
from policies import small_policy

SPEC = Spec(cameras={"top": (16, 16)}, state=("now", "next"), actions=("move", "still"), rate=10.0)
EPISODES, LENGTH, SHARE = 10, 6, 0.2


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """The state tells this action and the next one; the second action entry is always 0.5."""
    rng = np.random.default_rng(0)
    writer = DatasetWriter(tmp_path_factory.mktemp("openloop") / "dataset", SPEC)
    for _ in range(EPISODES):
        moves = rng.normal(size=LENGTH + 1).astype(np.float32)
        state = np.stack([moves[:-1], moves[1:]], axis=1)
        action = np.stack([moves[:-1], np.full(LENGTH, 0.5, np.float32)], axis=1)
        images = {"top": rng.integers(0, 255, (LENGTH, 16, 16, 3), dtype=np.uint8)}
        writer.append(Episode(images, state, action, "pick up the red ball"))
    writer.finalize()
    return Dataset.open(writer.path)


def policy(**config):
    return small_policy(spec=SPEC, image_size=16, action_horizon=2, execute=1, **config)


@pytest.fixture(scope="module")
def result(dataset):
    oracle = policy()

    def predict(inputs):  # the truth, and 0.1 too much in the second entry
        return torch.stack([inputs.state, torch.full_like(inputs.state, 0.6)], dim=-1)

    oracle.predict = predict
    return openloop(oracle, dataset, validation=SHARE, batch_size=5)


def held(dataset) -> tuple[np.ndarray, np.ndarray]:
    """The moves of the held-out episodes ``[episodes, length]`` and of the others."""
    moves = dataset.action[:, 0].numpy().reshape(EPISODES, LENGTH)
    out = held_out(EPISODES, SHARE)
    return moves[out], np.delete(moves, out, axis=0)


def test_the_policys_error_is_that_of_its_predictions(result):
    assert result["counts"] == {"n_episodes": 2, "n_frames": 12}
    assert result["per_action"]["move"]["units"]["policy"] == 0.0
    assert result["per_action"]["still"]["units"]["policy"] == pytest.approx(0.1)
    assert result["per_action"]["still"]["deviations"]["policy"] == pytest.approx(0.1)  # it never changes


def test_the_mean_action_is_that_of_the_other_episodes(result, dataset):
    moves, others = held(dataset)
    first, second = np.abs(moves - others.mean()), np.abs(moves[:, 1:] - others.mean())  # steps 1 and 2 of the chunks
    expected = np.concatenate([first.ravel(), second.ravel()]).mean()
    assert result["per_action"]["move"]["units"]["mean_action"] == pytest.approx(expected, rel=1e-4)
    deviation = others.std(ddof=1)
    assert result["per_action"]["move"]["deviations"]["mean_action"] == pytest.approx(expected / deviation, rel=1e-4)


def test_the_last_action_is_zero_at_an_episodes_start(result, dataset):
    moves, others = held(dataset)
    before = np.concatenate([np.zeros((2, 1), np.float32), moves[:, :-1]], axis=1)
    first, second = np.abs(moves - before), np.abs(moves[:, 1:] - before[:, :-1])
    expected = np.concatenate([first.ravel(), second.ravel()]).mean()
    assert result["per_action"]["move"]["units"]["last_action"] == pytest.approx(expected, rel=1e-4)
    step = (first / others.std(ddof=1)).mean()
    still = np.where(np.arange(LENGTH) == 0, 0.5, 0.0).mean()
    assert result["per_step"][0]["last_action"] == pytest.approx((step + still) / 2, rel=1e-4)


def test_an_untrained_policy_is_no_better_than_the_mean(dataset):
    total = openloop(policy(), dataset.path, validation=SHARE)["aggregated"]
    assert total["policy"] > 0.7 * total["mean_action"]


def test_a_policy_with_memory_sees_the_moments_before(dataset):
    remembering, seen = policy(memory=RecurrentConfig(steps=3)), []
    predict = remembering.predict
    remembering.predict = lambda inputs: (seen.append(inputs.window), predict(inputs))[1]
    assert openloop(remembering, dataset, validation=SHARE)["counts"]["n_frames"] == 12
    assert torch.cat(seen).sum(dim=1).tolist() == [1, 2, 3, 3, 3, 3] * 2


def test_a_policy_of_another_embodiment_is_refused(dataset):
    with pytest.raises(ValueError, match=r"does not fit dataset .*\n  - camera 'front'"):
        openloop(small_policy(), dataset)


def test_nothing_held_out_is_refused(dataset):
    with pytest.raises(ValueError, match="no episode of 10 is held out"):
        openloop(policy(), dataset, validation=0.0)


@pytest.mark.parametrize("trained_on", ["this", "another", None])
def test_it_tells_whether_the_dataset_is_that_of_the_training(tmp_path, dataset, trained_on):
    content = dataset.content() if trained_on == "this" else {**dataset.content(), "crc32": 1}
    saved = checkpoint.save(policy(), tmp_path / "c", {"dataset": content} if trained_on else {})
    result = openloop(policy(), dataset, SHARE, source=saved)
    same = {"this": True, "another": False, None: None}[trained_on]
    assert result["protocol"]["same_dataset"] is same and SEEN[same] in open_loop_lines(result)
    assert result["protocol"]["checkpoint"] == checkpoint.fingerprint(saved)


def test_the_share_is_that_of_the_training(tmp_path):
    description = {"format_version": 1, "provenance": {"train": {"val_fraction": 0.3}}}
    (tmp_path / "config.json").write_text(json.dumps(description))
    assert validation_share(tmp_path) == 0.3
    (tmp_path / "config.json").write_text(json.dumps({"format_version": 1}))
    assert validation_share(tmp_path) == 0.02
