"""What is learned from clean episodes: ranges, and scores whose false alarms are as rare as was asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plait.cli.calibrate import missing
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.safety.bounds import Seen
from plait.safety.calibrate import _place, calibrate, patterns, pooled, usual
from plait.safety.calibration import Calibration, Score, pattern
from plait.safety.envelope import Envelope
from plait.safety.health import Known
from plait.safety.modes import Mode
from plait.types import Observation
from policies import SPEC, small_policy

EPISODES, LENGTH = 48, 5
EVERYTHING = "images.front+images.wrist+instruction+state"


def pictures(rng: np.random.Generator) -> np.ndarray:
    """Noise about a level that is the episode's."""
    return rng.normal(rng.uniform(90, 160), 20, (LENGTH, 32, 32, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    rng = np.random.default_rng(0)
    writer = DatasetWriter(tmp_path_factory.mktemp("calibrate") / "dataset", SPEC)
    for _ in range(EPISODES):
        state, action = rng.uniform(-1, 1, (2, LENGTH, 8)).astype(np.float32)
        images = {camera: pictures(rng) for camera in SPEC.cameras}
        writer.append(Episode(images, state, action[:, :7], "pick up the red ball"))
    writer.finalize()
    return Dataset.open(writer.path)


@pytest.fixture(scope="module")
def policy():
    return small_policy()


@pytest.fixture(scope="module")
def calibration(policy, dataset) -> Calibration:
    return calibrate(policy, dataset, 0.1, {"train": {"modality_dropout": 0.1, "val_fraction": 0.1}})


def test_ranges_are_those_of_the_dataset(calibration, dataset):
    assert calibration.known.state_low == pytest.approx(dataset.state.amin(0).tolist())
    assert calibration.seen.high == pytest.approx(dataset.action.amax(0).tolist())
    assert max(calibration.seen.change) < 2
    assert calibration.droppable


def test_what_the_data_alone_tell_is_all_but_the_scores(policy, dataset, calibration):
    assert usual(policy, dataset, {"train": {"modality_dropout": 0.1}}) == replace(calibration, scores={}, report={})
    assert not usual(policy, dataset).droppable


def test_frames_all_over_videos_are_looked_for_only_when_asked(policy):
    data = Dataset.open(Path(__file__).parents[1] / "fixtures/lerobot_v3_video")
    assert usual(policy, data, videos=False).known.grain == {}
    assert usual(policy, data).known.grain.keys() == data.spec.cameras.keys()


@pytest.mark.parametrize(
    ("known", "seen", "told"),
    [
        (Known(), Seen(), "unusual states, pictures and actions pass unnoticed;"),
        (
            Known(),
            Seen((0.0,), (1.0,)),
            "it knows the actions of the training, and what else is unusual passes unnoticed;",
        ),
        (Known((0.0,), (1.0,), grain={}), Seen((0.0,), (1.0,)), "it knows the states and actions of the training, and"),
        (Known((0.0,), (1.0,), grain={"top": 2.0}), Seen((0.0,), (1.0,)), "it knows the states, actions and noise of"),
    ],
)
def test_what_an_envelope_without_scores_lets_pass_is_told(known, seen, told):
    sentence = missing("runs/x", Calibration(known, seen))
    assert f"is not calibrated: {told}" in sentence and "plait calibrate runs/x DATASET shows it clean" in sentence


def test_episodes_are_used_for_one_thing_each(calibration):
    assert calibration.report["episodes"] == {"fit": 10, "threshold": 21, "verify": 12 + 5}
    assert calibration.report["alarms"] <= 5
    assert calibration.report["false_alarms"] == 0.1
    assert calibration.report["alarms_by_pattern"].keys() == calibration.scores.keys()


def test_false_alarms_are_counted_for_each_pattern(policy, dataset):
    rng, blind = np.random.default_rng(0), "images.front+instruction+state"
    names = list(map(pattern, patterns(SPEC)))
    driven = [{name: rng.normal(size=(LENGTH, 4)).astype(np.float32) for name in names} for _ in range(40)]
    for place in np.random.default_rng(0).permutation(40)[30:]:  # those that verify
        driven[place][blind][2] += 99
    found = calibrate(policy, dataset, 0.2, driven=driven).report["alarms_by_pattern"]
    assert found.keys() == set(names)
    assert found.pop(blind) == 10 and max(found.values()) < 10


def test_each_pattern_has_its_own_score(calibration):
    missing = [set(SPEC.modalities) - set(present) for present in patterns(SPEC)]
    names = [set(), {"images.front"}, {"images.wrist"}, {"state"}, {"images.front", "state"}, {"images.wrist", "state"}]
    assert sorted(map(sorted, missing)) == sorted(map(sorted, names))
    assert len(calibration.scores) == 6
    assert len({score.threshold for score in calibration.scores.values()}) == 6
    assert calibration.score(np.zeros(256), ["instruction"]) is None


def moment(level: int) -> Observation:
    rng = np.random.default_rng(1)
    images = {c: rng.normal(level, 20, (1, 32, 32, 3)).clip(0, 255).astype(np.uint8) for c in SPEC.cameras}
    return Observation(images, np.zeros((1, 8), np.float32), ["pick up the red ball"])


@pytest.mark.parametrize(("level", "strange"), [(125, False), (20, True), (235, True)])
def test_pictures_unlike_those_of_training_are_noticed(policy, calibration, level, strange):
    robot = Envelope(SPEC, calibration=calibration)
    assert robot.judge(moment(level), 0.0).mode is Mode.NOMINAL
    robot.notice(pooled(policy, policy.prepare(moment(level)))[0])
    assert robot.mode is (Mode.DEGRADED if strange else Mode.NOMINAL)


def test_the_distance_is_that_of_mahalanobis():
    rng = np.random.default_rng(0)
    mixing = np.eye(4) + 0.2 * rng.normal(size=(4, 4))
    features = rng.normal(size=(20_000, 4)) @ mixing + 5
    away = np.array([1.0, -2.0, 0.5, 3.0])
    exact = float(np.sum(np.linalg.solve(mixing.T, away) ** 2))
    assert Score.fit(features).distance(away + 5) == pytest.approx(exact, rel=0.1)
    assert Score.fit(features).distance(features).mean() == pytest.approx(4, rel=0.1)
    assert np.isfinite(Score.fit(np.ones((9, 3))).distance(np.zeros(3))), "features that never change"


def test_it_is_kept_beside_the_checkpoint(tmp_path, policy, calibration):
    calibration.save(tmp_path)
    again = Calibration.load(tmp_path, policy)
    assert replace(again, scores={}) == replace(calibration, scores={})
    features = np.linspace(-1, 1, len(calibration.scores[EVERYTHING].mean))
    assert again.score(features, SPEC.modalities) == calibration.score(features, SPEC.modalities)
    assert again.known.tokenizer is policy.tokenizer
    assert json.loads((tmp_path / "safety.json").read_text())["report"] == calibration.report


def test_what_is_not_known_is_kept_as_such(tmp_path, policy):
    Calibration(Known(tokenizer=policy.tokenizer)).save(tmp_path)
    assert Calibration.load(tmp_path, policy) == Calibration(Known(tokenizer=policy.tokenizer))


def test_a_damaged_or_missing_file_is_told(tmp_path, policy, calibration):
    with pytest.raises(ValueError, match=r"no safety\.json; the policy was not calibrated"):
        Calibration.load(tmp_path, policy)
    calibration.save(tmp_path)
    (tmp_path / "safety.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"safety\.json or safety\.safetensors is damaged"):
        Calibration.load(tmp_path, policy)


def test_what_makes_no_sense_is_refused(policy, dataset):
    with pytest.raises(ValueError, match="false_alarms: 0 is no share"):
        calibrate(policy, dataset, 0)
    with pytest.raises(ValueError, match=r"0\.01 cannot be told from 48 episodes .* give 198, or a share of"):
        calibrate(policy, dataset, 0.01)
    with pytest.raises(ValueError, match=r"does not fit dataset .* camera 'front'"):
        calibrate(policy, replace(dataset, spec=replace(SPEC, cameras={"top": (32, 32)})), 0.1)


def test_a_pattern_is_a_set():
    assert pattern(["state", "instruction"]) == pattern(("instruction", "state")) == "instruction+state"


@pytest.mark.parametrize(("count", "share"), [(99, 0.01), (300, 0.01), (400, 0.01), (200, 0.05), (50, 0.2)])
def test_the_threshold_is_passed_too_often_in_at_most_one_of_ten_calibrations(count: int, share: float) -> None:
    place = _place(count, share)
    scores = np.sort(np.random.default_rng(0).random((20_000, count)), axis=1)  # u is passed with probability 1 - u
    too_often = (1 - scores[:, place] > share).mean()
    assert place == count - 1 or too_often <= 0.105
    assert place == 0 or (1 - scores[:, place - 1] > share).mean() > 0.09, "a lower one would do"
