import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from plait import envs
from plait.envs.tabletop.env import HELD, INSTRUCTIONS, Tabletop
from plait.envs.tabletop.tasks import FAMILIES, HORIZONS
from plait.envs.tabletop.vocabulary import VOCABULARIES

RANDOM = np.random.default_rng(0).uniform(-1, 1, (12, 7)).astype(np.float32)


def _same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("family", [*FAMILIES, "mixed"])
def test_gymnasium_accepts_it(family):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unbounded state is meant
        check_env(Tabletop(family, language="mixed"))


def test_a_vector_of_them():
    env = gymnasium.make_vec("plait/Tabletop-v0", num_envs=3, vectorization_mode="sync", family="mixed", size=(32, 48))
    observation, info = env.reset(seed=[5, 6, 7])
    assert observation["observation.images.wrist"].shape == (3, 32, 48, 3)
    alone, alone_info = Tabletop("mixed", size=(32, 48)).reset(seed=6)
    assert _same({key: value[1] for key, value in observation.items()}, alone)
    assert info["task"][1] == alone_info["task"]
    env.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_is_the_same_episode_bit_for_bit(family):
    runs = []
    for env in (Tabletop(family), Tabletop(family)):
        env.reset(seed=99)
        env.step(RANDOM[0])  # whatever happened before
        runs.append([env.reset(seed=4), *(env.step(action) for action in RANDOM)])
    for first, second in zip(*runs, strict=True):
        assert _same(first[0], second[0]) and first[1:] == second[1:]


def test_other_seeds_are_other_scenes():
    env = Tabletop()
    assert not _same(env.reset(seed=0)[0], env.reset(seed=1)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_instruction_never_changes_the_scene(family):
    results = {}
    for instruction in INSTRUCTIONS:
        env = Tabletop(family)
        observation, info = env.reset(seed=11, options={"instruction": instruction})
        results[instruction] = observation, info, env.reset()[0]  # and not the next one either
    normal, info, following = results["normal"]
    for name, (observation, other, after) in results.items():
        assert _same(observation, normal) and _same(after, following)
        assert other["first_named"] == info["target"]
        assert (other["target"] == info["target"]) == (name != "exchanged")
    sentences = {name: other["task"] for name, (_, other, _) in results.items()}
    assert sentences["absent"] == "" and len(set(sentences.values())) == len(sentences)
    assert info["first_named"] in sentences["normal"] and results["exchanged"][1]["target"] in sentences["exchanged"]


def test_info_tells_what_happened():
    env = Tabletop("place")
    _, info = env.reset(seed=2)
    target = info["target"]
    assert info["phase"] == "approach" and info["touched"] == info["lifted"] == info["moved"] == ""
    expert, phases, over = env.expert(), [], False
    while not over:
        _, reward, over, _, info = env.step(expert.action())
        phases.append(info["phase"])
    assert list(dict.fromkeys(phases)) == ["approach", "grasp", "transport", "release"]
    assert info["is_success"] and reward == 1.0 and info["steps"] == 1
    assert info["touched"] == info["lifted"] == info["moved"] == target


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_truncated_at_the_horizon(family):
    env = Tabletop(family, cameras=())
    env.reset(seed=0)
    steps, truncated, terminated = 0, False, False
    while not truncated:
        _, reward, terminated, truncated, info = env.step(np.zeros(7))
        steps += 1
        assert reward == 0.0 and not terminated and not info["is_success"]
    assert steps == HORIZONS[family]


def test_advance_is_that_many_steps():
    one, many = Tabletop(), Tabletop()
    one.reset(seed=3)
    many.reset(seed=3)
    result = [one.step(action) for action in RANDOM[:5]][-1]
    advanced = many.advance(RANDOM[:5])
    assert _same(result[0], advanced[0])
    assert result[1:4] == advanced[1:4] and {**result[4], "steps": 5} == advanced[4]


def test_advance_stops_at_success():
    env = Tabletop(cameras=())
    env.reset(seed=0)
    expert = env.expert()
    while not env._achieved:  # until one step before success
        env.step(expert.action())
    _, _, terminated, _, info = env.advance(np.tile(expert.action(), (10, 1)))
    assert terminated and info["steps"] == HELD - 1


@pytest.mark.parametrize("actions", [np.zeros((2, 6)), np.zeros(7), np.full((1, 7), np.nan)])
def test_bad_actions_are_refused(actions: np.ndarray):
    env = Tabletop(cameras=())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions"):
        env.advance(actions)


def test_bad_reset_options_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'exchanged'"):
        Tabletop(cameras=()).reset(options={"instruction": "exchange"})
    with pytest.raises(ValueError, match="Did you mean 'instruction'"):
        Tabletop(cameras=()).reset(options={"instructions": "normal"})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_split_says_whether_the_target_is_held_out(family):
    held_out = {" ".join(pair) for pair in VOCABULARIES["small"].held_out}
    for split in ("seen", "unseen"):
        env = Tabletop(family, combinations=split, cameras=())
        for seed in range(5):
            info = env.reset(seed=seed)[1]
            assert info["split"] == split and (info["target"] in held_out) == (split == "unseen")


def test_the_embodiment_is_what_is_observed():
    env = envs.make("tabletop", cameras="wrist", size=(48, 80)).unwrapped
    assert isinstance(env, Tabletop)
    observation, _ = env.reset(seed=0)
    assert env.embodiment.cameras == {"wrist": (48, 80)}
    assert set(observation) == {"observation.images.wrist", "observation.state"}
    assert observation["observation.state"].shape == (len(env.embodiment.state),)
    assert env.action_space.shape == (len(env.embodiment.actions),)


def test_no_picture_is_drawn_without_cameras(monkeypatch):
    monkeypatch.setattr("plait.envs.tabletop.scene._renderer", None)
    Tabletop(cameras=()).reset(seed=0)


def test_render_is_a_larger_picture():
    env = Tabletop()
    env.reset(seed=0)
    picture = env.render()
    assert picture is not None and picture.shape == (480, 640, 3) and picture.std() > 20
