import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from plait import envs
from plait.envs.metaworld.env import TABLE, MetaWorld
from plait.envs.metaworld.simulation import CORNER2, HORIZON
from plait.envs.metaworld.tasks import INSTRUCTIONS, TIER

TASKS = ("push-v3", "reach-v3", "drawer-open-v3")
RANDOM = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def env():
    env = MetaWorld(TASKS, size=48)
    yield env
    env.close()


@pytest.fixture(scope="module")
def blind():
    env = MetaWorld(TASKS, cameras=())
    yield env
    env.close()


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_gymnasium_accepts_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unbounded state is meant
        check_env(MetaWorld(TASKS, size=(24, 32)))


def test_a_vector_of_them():
    env = gymnasium.make_vec("plait/MetaWorld-v0", num_envs=2, vectorization_mode="sync", task="reach", size=24)
    observation, info = env.reset(seed=[5, 6])
    assert observation["observation.images.corner2"].shape == (2, 24, 24, 3)
    assert info["task"].tolist() == ["Reach a goal position"] * 2
    env.close()


@pytest.mark.parametrize("number", range(3))
def test_the_same_seed_is_the_same_episode_bit_for_bit(env, number):
    """Whatever was simulated before, the marks of the goals included, which the package leaves where they were."""
    runs = []
    for before in (1, 2):
        env.reset(seed=before, options={"number": number})
        env.advance(RANDOM[:before])
        runs.append([env.reset(seed=4, options={"number": number}), *(env.step(action) for action in RANDOM)])
    for first, second in zip(*runs, strict=True):
        assert same(first[0], second[0]) and first[1:] == second[1:]
    assert not same(runs[0][0][0], env.reset(seed=5, options={"number": number})[0])


def test_a_seed_keeps_its_places(blind):
    """A recording that is continued, or an evaluation that is repeated, must find the scenes that it had."""
    blind.reset(seed=0, options={"number": 0})
    places = [0.042352, 0.635799, 0.02, 0.000216, 0.876607, 0.019502]  # of the puck and of the goal
    assert np.round(blind._simulation._env._last_rand_vec, 6).tolist() == places


def test_the_number_decides_the_task_and_without_it_the_seed(blind):
    names = [blind.reset(seed=7, options={"number": number})[1]["task_name"] for number in range(5)]
    assert names == [*TASKS, *TASKS[:2]]
    drawn = [blind.reset(seed=seed)[1]["task_name"] for seed in range(12)]
    assert set(drawn) == set(TASKS) and drawn == [blind.reset(seed=seed)[1]["task_name"] for seed in range(12)]


@pytest.mark.parametrize("number", range(3))
def test_experts_know_the_goal_and_keep_to_the_limits(blind, number):
    _, info = blind.reset(seed=1, options={"number": number})
    assert info["task"] == INSTRUCTIONS[TASKS[number]] and info["tier"] == TIER[TASKS[number]]
    expert, over, actions = blind.expert(), False, []
    while not over:
        actions.append(expert.action())
        _, reward, terminated, truncated, info = blind.step(actions[-1])
        over = terminated or truncated
    assert info["is_success"] and terminated and reward == 1.0 and len(actions) < 150
    assert np.abs(actions).max() == 1.0 and actions[0].dtype == np.float32


def test_advance_is_that_many_steps_and_ends_at_the_horizon(env):
    env.reset(seed=3, options={"number": 0})
    result = [env.step(action) for action in RANDOM][-1]
    env.reset(seed=3, options={"number": 0})
    advanced = env.advance(RANDOM)
    assert same(result[0], advanced[0]) and {**result[4], "steps": len(RANDOM)} == advanced[4]
    _, reward, terminated, truncated, info = env.advance(np.zeros((600, 4)))
    assert (reward, terminated, truncated, info["steps"]) == (0.0, False, True, HORIZON - len(RANDOM))


@pytest.mark.parametrize("actions", [np.zeros((2, 7)), np.zeros(4), np.full((1, 4), np.nan)])
def test_bad_actions_are_refused(blind, actions: np.ndarray):
    blind.reset(seed=0)
    with pytest.raises(ValueError, match="k times 4 finite numbers"):
        blind.advance(actions)


def test_words_are_exchanged_between_tasks_or_absent(blind):
    told = {seed: blind.reset(seed=seed, options={"number": 0, "instruction": "exchanged"})[1] for seed in range(12)}
    assert {info["task"] for info in told.values()} == {INSTRUCTIONS[task] for task in TASKS[1:]}
    assert {info["task_name"] for info in told.values()} == {TASKS[0]}
    assert blind.reset(seed=3, options={"number": 0, "instruction": "exchanged"})[1] == told[3]
    assert blind.reset(seed=3, options={"number": 0, "instruction": "absent"})[1]["task"] == ""
    with pytest.raises(
        ValueError, match=r"no instruction 'paraphrase'; choose one of \['absent', 'exchanged', 'normal'\]"
    ):
        blind.reset(options={"instruction": "paraphrase"})


def test_tasks_of_one_sentence_are_told_that_of_any_other():
    env = MetaWorld(["push", "push-back"], cameras=())
    words = {env._exchanged("push-v3", chance) for chance in range(100)}
    assert len(words) == 48 and INSTRUCTIONS["push-v3"] not in words


def test_the_embodiment_is_what_is_observed():
    env = envs.make("metaworld", task="reach", cameras=("corner2", "gripperPOV"), size=(24, 32)).unwrapped
    assert isinstance(env, MetaWorld)
    observation, _ = env.reset(seed=0)
    assert env.embodiment.cameras == {"corner2": (24, 32), "gripperPOV": (24, 32)}
    assert observation["observation.images.gripperPOV"].shape == (24, 32, 3)
    assert env.embodiment.position == (0, 1, 2) and env.embodiment.gripper == "positive_closes"
    hand = observation["observation.state"].copy()
    opened = env.advance(np.tile([0.0, 0.0, 1.0, 1.0], (20, 1)))[0]["observation.state"]
    assert opened[2] > hand[2] + 0.05 and opened[3] < hand[3] - 0.2  # up, and closed
    picture = env.render()
    assert picture is not None and picture.shape == (480, 480, 3)
    env.close()


def test_full_quality_is_the_packages_own_picture():
    """Of the moved camera, turned by 180 degrees."""
    env = MetaWorld("reach", size=64, quality="full")
    mine = env.reset(seed=0)[0]["observation.images.corner2"]
    package = ALL_V3_ENVIRONMENTS["reach-v3"](render_mode="rgb_array", camera_name="corner2", width=64, height=64)
    package.model.camera("corner2").pos[:] = CORNER2
    simulated = env._simulation._env.data
    package.model.site_pos[:] = env._simulation._env.model.site_pos
    package.set_state(simulated.qpos, simulated.qvel)
    package.data.mocap_pos[:] = simulated.mocap_pos
    assert np.array_equal(package.render()[::-1, ::-1], mine)
    viewer = package.mujoco_renderer.viewer
    viewer.make_context_current()  # else it frees, some time later, what has the same numbers in our context
    viewer.con.free()
    package.close()
    assert not np.array_equal(MetaWorld("reach", size=64).reset(seed=0)[0]["observation.images.corner2"], mine)
    env.close()


def test_a_crop_is_a_part_of_the_whole_picture() -> None:
    def picture(**how: Any) -> np.ndarray:
        return MetaWorld("reach", **how).reset(seed=0)[0]["observation.images.corner2"]

    assert np.array_equal(picture(size=(30, 36), crop=(0.25, 0.5, 0.75, 1.0)), picture(size=(60, 72))[30:, 18:54])
    assert picture(size=160, crop=TABLE).shape == (160, 160, 3)


@pytest.mark.parametrize("crop", [(0.5, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 1.1), (-0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0)])
def test_a_crop_outside_of_the_picture_is_refused(crop: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"crop: .* give left, top, right and bottom .* 0 <= left < right <= 1 and"):
        MetaWorld("reach", crop=crop)


def test_what_was_compiled_is_used_again():
    first, second = MetaWorld("reach", cameras=()), MetaWorld(["push", "reach"], cameras=())
    first.reset(seed=0)
    compiled = first._simulation
    first.close()
    second.reset(seed=0, options={"number": 1})
    assert second._simulation is compiled
    first.reset(seed=0)
    assert first._simulation is not compiled, "two environments would disturb each other"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [({"task": "reech"}, "reach-v3"), ({"cameras": "corner_2"}, "corner2"), ({"quality": "fst"}, "fast")],
)
def test_a_wrong_value_gets_a_suggestion(arguments: dict, hint: str):
    with pytest.raises(ValueError, match=f"Did you mean '{hint}'"):
        envs.make("metaworld", **arguments)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld.env_dict", None)
    with pytest.raises(ValueError, match=r"environment 'metaworld': .*; pip install 'plait\[metaworld\]'"):
        envs.make("metaworld")
