"""Three tasks through recording and evaluation: the number of a scene or an episode decides its task."""

from pathlib import Path

import pytest

from plait import envs
from plait.data.lerobot import Dataset
from plait.envs.metaworld.tasks import INSTRUCTIONS, TIER
from plait.evaluate.alter import Blanked
from plait.evaluate.rollout import evaluate
from plait.record.recorder import record
from policies import small_policy

TASKS = ["coffee-button-v3", "push-v3", "handle-press-v3"]
ARGUMENTS = {"task": TASKS, "size": 24}


def test_each_scene_of_a_recording_has_its_task(tmp_path: Path):
    made = record("metaworld", tmp_path / "d", 3, ARGUMENTS, workers=2)
    dataset = Dataset.open(tmp_path / "d")
    assert made.episodes == len(dataset.episodes) == 3
    assert [episode.instructions for episode in dataset.episodes] == [(INSTRUCTIONS[task],) for task in TASKS]
    assert [extra["scene"] for extra in dataset.extras()] == [0, 1, 2]
    assert all(30 < episode.length < 100 for episode in dataset.episodes) and dataset.verify() == []


def test_each_episode_of_an_evaluation_has_its_task():
    policy = small_policy(spec=envs.make("metaworld", **ARGUMENTS).unwrapped.embodiment, action_horizon=50)
    options = {"episodes": 3, "slots": 2, "workers": 2, "execute": 50, "quiet": True}
    options |= {"alter": [Blanked("images.corner2")]}
    result = evaluate(policy, "metaworld", ARGUMENTS, **options)
    assert [row["task"] for row in result["per_episode"]] == TASKS
    assert [row["tier"] for row in result["per_episode"]] == [TIER[task] for task in TASKS]
    assert {task: group["n_episodes"] for task, group in result["per_task"].items()} == dict.fromkeys(TASKS, 1)
    assert {tier: group["n_episodes"] for tier, group in result["per_tier"].items()} == {"easy": 2, "hard": 1}
    protocol = result["protocol"]
    assert (protocol["horizon"], protocol["rate"]) == (500, 80.0)
    assert protocol["alter"] == [{"type": "blanked", "modality": "images.corner2"}]
    assert protocol["versions"]["metaworld"] == "3.1.1"


def test_instructions_that_it_does_not_know_are_refused():
    policy = small_policy(spec=envs.make("metaworld", **ARGUMENTS).unwrapped.embodiment)
    with pytest.raises(ValueError, match="'paraphrase' is not known to environment 'metaworld'; choose one of"):
        evaluate(policy, "metaworld", ARGUMENTS, episodes=1, instructions="paraphrase", quiet=True)
