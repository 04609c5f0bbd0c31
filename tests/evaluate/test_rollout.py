"""Closed loop, end to end: the real tabletop and a small foreign environment, real policies, real files."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plait import envs
from plait.encoders.tokenizer import Tokenizer
from plait.evaluate.pool import Pool, Workers
from plait.evaluate.protocol import FIRST_SEED, embodiment, evaluation_seed, unknown_words
from plait.evaluate.rollout import evaluate, rollouts
from plait.evaluate.video import write_video
from plait.evaluate.worker import Scenes
from plait.files import locked
from plait.memory import RecurrentConfig
from policies import small_policy
from reach_env import ID, REACH

TABLETOP = envs.make("tabletop").unwrapped.embodiment


def reach_policy(**config):
    return small_policy(spec=REACH, image_size=16, **config)


def test_evaluation_seeds_are_apart_from_those_of_recording_and_from_each_other():
    seeds = [evaluation_seed(seed, i) for seed in (0, 1, 999) for i in range(1000)]
    assert min(seeds) >= FIRST_SEED == 2**30
    assert max(seeds) < 2**31
    assert len(set(seeds)) == len(seeds)
    assert evaluation_seed(3, 5) == evaluation_seed(3, 5)


def test_eval_json_is_complete(tmp_path):
    result = evaluate(reach_policy(), ID, episodes=5, slots=2, workers=1, out=tmp_path, checkpoint="abc", quiet=True)
    assert json.loads((tmp_path / "eval.json").read_text()) == result
    assert result["partial"] is False
    assert result["aggregated"]["n_episodes"] == len(result["per_episode"]) == 5
    assert set(result["per_episode"][0]) >= {"seed", "task", "instruction", "success", "steps"}
    protocol = result["protocol"]
    assert (protocol["horizon"], protocol["rendering"]) == (None, None)  # a foreign one, which does not tell
    assert (protocol["execute"], protocol["slots"], protocol["checkpoint"]) == (4, 2, "abc")
    assert protocol["ensemble"] is None
    assert (protocol["cameras"], protocol["alter"]) == ({"top": [16, 16]}, [])
    assert protocol["env_args"] == {"fail": "", "fail_seed": -1}  # defaults too
    assert {"plait", "torch", "mujoco", "gymnasium"} <= set(protocol["versions"])


def test_same_arguments_same_episodes_whatever_the_workers():
    runs = [
        evaluate(small_policy(spec=TABLETOP), "tabletop", episodes=3, slots=2, workers=w, execute=8, quiet=True)
        for w in (1, 2)
    ]
    assert runs[0]["per_episode"] == runs[1]["per_episode"]
    assert runs[0]["per_split"].keys() == {"seen"}
    rendering = {"quality": "fast", "shadows": False, "reflections": False, "samples": 0}
    assert (runs[0]["protocol"]["horizon"], runs[0]["protocol"]["rendering"]) == (60, rendering)


def test_an_ensemble_plans_at_every_step_and_begins_anew_with_every_episode():
    """Nine episodes in two slots end as they do in nine slots, where no slot has a second one."""
    policy = reach_policy()
    policy.predict = lambda inputs: inputs.state[:, None, :1].sign().expand(-1, policy.horizon, -1)  # away from 0
    runs = [evaluate(policy, ID, episodes=9, ensemble=0.01, slots=n, workers=1, quiet=True) for n in (2, 9)]
    assert (runs[0]["protocol"]["execute"], runs[0]["protocol"]["ensemble"]) == (1, 0.01)
    assert runs[0]["per_episode"] == runs[1]["per_episode"]


def test_every_episode_begins_with_an_empty_memory():
    """In two slots, one episode follows another in the same row."""
    policy, moments, begun = reach_policy(memory=RecurrentConfig(steps=3)), np.zeros(2), []
    step = policy.step

    def watched(inputs, state, reset):
        chunk, after = step(inputs, state, reset)
        moments[:] = np.where(reset, 1, np.minimum(moments + 1, 3))
        assert after.mask.sum(dim=1).tolist() == moments.tolist()
        begun.append(int(reset.sum()))
        return chunk, after

    policy.step = watched
    evaluate(policy, ID, episodes=9, slots=2, workers=1, quiet=True)
    assert begun[0] == 2 and sum(begun) == 9 and len(begun) > 9


def test_the_experts_actions_succeed_through_the_pool():
    """What a demonstrator does step by step must do the same in chunks, in another process."""
    seeds = tuple(evaluation_seed(7, i) for i in range(6))
    scenes = Scenes("tabletop", seeds, {"cameras": ()}, "exchanged")
    env = scenes.make()
    plans = [demonstrate(env, scenes, episode) for episode in range(len(seeds))]
    with Workers(2) as staff:
        pool, done = Pool(scenes, env, slots=4, execute=5, workers=staff), np.zeros(4, int)

        def replay(_):
            done[pool.fresh] = 0
            chunks = [plans[index][at : at + 5] for index, at in zip(pool.index, done, strict=True)]
            done[:] += 5
            return np.stack([np.resize(chunk, (5, 7)) if len(chunk) else np.zeros((5, 7)) for chunk in chunks])

        episodes = sorted(rollouts(replay, pool), key=lambda episode: episode.index)
    env.close()
    assert [episode.success for episode in episodes] == [True] * 6
    assert [len(episode.actions) for episode in episodes] == [len(plan) for plan in plans]
    for episode in episodes:
        assert episode.facts["target"] in episode.facts["lifted"]
        assert episode.facts["target"] != episode.facts["first_named"]


def demonstrate(env, scenes, episode):
    scenes.reset(env, episode)
    expert, actions, ended = env.unwrapped.expert(), [], False
    while not ended:
        actions.append(expert.action())
        _, _, terminated, truncated, _ = env.step(actions[-1])
        ended = terminated or truncated
    return np.array(actions)


STDIN = """
import torch
from plait.evaluate.rollout import evaluate
from policies import small_policy
from reach_env import ID, REACH

torch.set_num_threads(1)
result = evaluate(small_policy(spec=REACH, image_size=16), ID, episodes=2, slots=2, workers=2)
print(result["aggregated"]["n_episodes"])
"""


def test_it_can_be_started_from_standard_input_without_a_main_guard():
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-"], input=STDIN, env=os.environ | path, capture_output=True, text=True, timeout=120
    )
    assert (run.returncode, run.stdout) == (0, "2\n"), run.stderr


def test_an_interruption_keeps_what_is_finished(tmp_path):
    policy = reach_policy()
    predict, calls = policy.predict, []

    def interrupted(inputs):
        calls.append(inputs)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return predict(inputs)

    policy.predict = interrupted
    (tmp_path / "eval.json").write_text("of an earlier, whole evaluation")
    result = evaluate(policy, ID, episodes=9, slots=3, workers=1, out=tmp_path, quiet=True)
    assert result["partial"] is True
    assert 0 < result["aggregated"]["n_episodes"] < 9
    assert json.loads((tmp_path / "eval.partial.json").read_text()) == result
    assert (tmp_path / "eval.json").read_text() == "of an earlier, whole evaluation"


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_interruption_before_any_episode_is_finished_leaves_no_report(tmp_path):
    policy = reach_policy()
    policy.predict = interrupted
    result = evaluate(policy, ID, episodes=2, workers=1, out=tmp_path, quiet=True)
    assert (result["partial"], result["per_episode"]) == (True, [])
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_filming_leaves_a_whole_report_that_says_so(tmp_path, monkeypatch):
    def second(path, *rest):
        write_video(path, *rest)
        if write.append(path) or len(write) == 2:
            raise KeyboardInterrupt

    write = []
    monkeypatch.setattr("plait.evaluate.rollout.write_video", second)
    result = evaluate(reach_policy(), ID, episodes=4, slots=4, workers=1, videos=3, out=tmp_path, quiet=True)
    assert (result["partial"], result["unfilmed"], len(result["per_episode"])) == (False, 2, 4)
    assert json.loads((tmp_path / "eval.json").read_text()) == result
    films = [tmp_path / row["video"] for row in result["per_episode"] if "video" in row]
    assert films == list((tmp_path / "videos").iterdir()) == write[:1]


def test_a_second_evaluation_into_the_same_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="another process is writing here"):
        evaluate(reach_policy(), ID, episodes=1, workers=1, out=tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_words_that_the_policy_does_not_know_are_counted():
    result = evaluate(reach_policy(), ID, episodes=6, slots=6, workers=1, quiet=True)
    assert result["protocol"]["unknown_words"] == {"words": ["go", "left", "right"], "pc_episodes": 100.0}
    half = unknown_words(Tokenizer.build(["go left"]), ["go left", "go right", "", "go left"])
    assert half == {"words": ["right"], "pc_episodes": 25.0}


def test_a_policy_of_another_embodiment_is_refused():
    policy = small_policy(spec=replace(TABLETOP, cameras={"top": (32, 32)}, gripper="positive_opens"))
    with pytest.raises(ValueError, match="does not fit environment 'tabletop'") as error:
        evaluate(policy, "tabletop", episodes=1, quiet=True)
    assert "camera 'top': in the policy, not in the environment" in str(error.value)
    assert "gripper: the policy has 'positive_opens', the environment has 'positive_closes'" in str(error.value)


def test_a_foreign_environment_takes_the_policys_names_where_the_numbers_agree():
    env = envs.make(ID)
    assert embodiment(env, REACH) == REACH
    assert embodiment(env, replace(REACH, state=("a", "b", "c"))).state == ("state_0", "state_1")


def test_no_episodes_are_too_few():
    with pytest.raises(ValueError, match="episodes: 0"):
        evaluate(reach_policy(), ID, episodes=0)
    for name, value, least in (("seed", -1, 0), ("workers", 0, 1), ("slots", 0, 1), ("videos", -1, 0)):
        with pytest.raises(ValueError, match=f"{name}: {value} is too small; at least {least}"):
            evaluate(reach_policy(), ID, **{name: value})


def test_videos_show_failures_and_successes(tmp_path):
    result = evaluate(reach_policy(), ID, episodes=4, slots=2, workers=1, videos=2, out=tmp_path, quiet=True)
    names = [row["video"] for row in result["per_episode"] if "video" in row]
    assert len(names) == 2
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)
    evaluate(reach_policy(), ID, episodes=1, slots=1, workers=1, out=tmp_path, quiet=True)
    assert list((tmp_path / "videos").iterdir()) == [], "films of another evaluation"


def test_instructions_that_a_foreign_environment_would_ignore_are_refused():
    with pytest.raises(ValueError, match="instructions: 'exchanged' is not known to environment 'reach_env:Reach-v0'"):
        evaluate(reach_policy(), ID, episodes=1, instructions="exchanged", quiet=True)
