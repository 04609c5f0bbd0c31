"""Features of the policy's own clean episodes, and what an envelope learns from them."""

from dataclasses import replace

import numpy as np
import pytest

from plait import checkpoint, envs
from plait.cli import main
from plait.control import Controller
from plait.data.episode import Episode
from plait.data.lerobot import Dataset
from plait.data.writer import DatasetWriter
from plait.evaluate.driven import SEED, driven_features
from plait.evaluate.protocol import evaluation_seed
from plait.safety.calibrate import calibrate, patterns, pooled
from plait.safety.calibration import Calibration
from plait.types import Observation
from policies import small_policy
from reach_env import ID, REACH

SPEC = replace(REACH, action_kind="delta", action_low=(-1.0,), action_high=(1.0,))
EVERYTHING = "images.top+instruction+state"


@pytest.fixture(scope="module")
def policy():
    return small_policy(spec=SPEC, image_size=16).eval()


@pytest.fixture(scope="module")
def driven(policy):
    return driven_features(policy, ID, episodes=40, workers=1, quiet=True)


def test_they_are_those_at_the_moments_at_which_the_policy_plans(policy, driven):
    env, controller = envs.make(ID), Controller(policy)
    for index in (0, 39):
        seen, info = env.reset(seed=evaluation_seed(SEED, index))
        wanted, ended = [], False
        while not ended:
            moment = Observation(
                {"top": seen["observation.images.top"][None]}, seen["observation.state"][None], [info["task"]]
            )
            wanted.append(pooled(policy, policy.prepare(moment))[0])
            for action in controller.plan(moment)[0]:
                seen, _, terminated, truncated, _ = env.step(action)
                if ended := terminated or truncated:
                    break
        np.testing.assert_allclose(driven[index][EVERYTHING], wanted, rtol=1e-3, atol=1e-4)
        assert len(driven[index]) == len(list(patterns(SPEC)))
    env.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    writer, rng = DatasetWriter(tmp_path_factory.mktemp("driven") / "dataset", SPEC), np.random.default_rng(0)
    for _ in range(2):
        images = {"top": rng.integers(0, 256, (4, *SPEC.cameras["top"], 3), np.uint8)}
        state, action = rng.normal(size=(4, len(SPEC.state))), rng.normal(size=(4, len(SPEC.actions)))
        writer.append(Episode(images, state.astype(np.float32), action.astype(np.float32), "reach"))
    writer.finalize()
    return Dataset.open(writer.path)


def test_scores_are_learned_from_them(policy, driven, data):
    found = calibrate(policy, data, 0.1, driven=driven)
    assert found.report["from"] == "rollouts"
    assert found.report["episodes"] == {"fit": 10, "threshold": 20, "verify": 10}
    score = found.scores[EVERYTHING]
    order = np.random.default_rng(0).permutation(40)
    worst = np.array([score.distance(driven[i][EVERYTHING]).max() for i in order])
    assert score.threshold == pytest.approx(worst[20:30].max()), "of ten episodes, at 10 %"
    assert found.report["alarms"] == (worst[30:] > score.threshold).sum()
    assert found.known.state_low == pytest.approx(data.state.amin(0).tolist())
    strange = [{name: rows + 9 for name, rows in each.items()} for each in driven[:10]]
    mixed = [*driven]
    for place, each in zip(order[30:], strange, strict=True):
        mixed[place] = each
    assert calibrate(policy, data, 0.1, driven=mixed).report["alarms"] == 10
    with pytest.raises(
        ValueError, match=r"0\.01 cannot be told from 40 rollouts; give 198, or a share of at least 0\.048"
    ):
        calibrate(policy, data, 0.01, driven=driven)


def test_another_environment_is_refused(policy):
    with pytest.raises(ValueError, match="this policy does not fit"):
        driven_features(small_policy(spec=replace(SPEC, cameras={"side": (16, 16)})), ID, episodes=1, workers=1)


def test_the_command_keeps_what_it_has_learned(policy, data, tmp_path, capsys):
    saved = checkpoint.save(policy, tmp_path / "c")
    command = ["calibrate", str(saved), str(data.path), "--false-alarms", "0.1"]
    env = ["--env", ID, "--workers", "1"]
    assert main([*command, *env, "--rollouts", "40"]) == 0
    told = capsys.readouterr()
    assert told.out.endswith(f" of 10 further rollouts had an alarm\nkept in {saved}/safety.json\n")
    assert Calibration.find(saved, policy).report["from"] == "rollouts"
    assert main([*command, *env, "--rollouts", "8"]) == 2  # before anything is driven
    assert "0.1 cannot be told from 8 rollouts; give 18, or a share of at least 0.2" in capsys.readouterr().err
    assert main([*command, *env]) == 2
    assert "--env and --env-args are for --rollouts; add it" in capsys.readouterr().err
    failing = ["eval", str(saved), *env, "--failures", "--episodes", "1", "--out", str(tmp_path / "out")]
    assert main(failing) == 0 and "not calibrated" not in capsys.readouterr().err
