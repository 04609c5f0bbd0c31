import hashlib
import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from plait import envs
from plait.envs.tabletop.env import FLASH, HELD, INSTRUCTIONS, Tabletop
from plait.envs.tabletop.tasks import FAMILIES, HORIZONS, MIXED
from plait.envs.tabletop.vocabulary import COLOURS, VOCABULARIES
from plait.policy import PolicyConfig

SCENES = {  # a recording that is continued, or an evaluation that is repeated, must find the scenes that it had
    "pick": "78ebbf5e879ebea5",
    "place": "efda824bd1c50cc2",
    "push": "14d60bfb3c2bfb3c",
    "stack": "c4f1c0a603ed8dd0",
    "mixed": "6f497cde77983649",
}
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


@pytest.mark.parametrize("family", SCENES)
def test_a_seed_is_the_same_scene_and_sentence_for_ever(family):
    seen = []
    for vocabulary, combinations, language in (("small", "seen", "en"), ("large", "unseen", "mixed")):
        env = Tabletop(family, vocabulary, combinations, language, cameras=())
        for seed in range(10):
            for instruction in ("normal", "exchanged"):
                info = env.reset(seed=seed, options={"instruction": instruction})[1]
                layout = env._task.layout
                numbers = np.concatenate([layout.places.flatten(), layout.yaws, layout.hand]).round(6).tolist()
                seen.append([info["task"], info["target"], layout.names, numbers])
    assert hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16] == SCENES[family]


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
    named = slice(1, None) if family == "recall" else slice(None)  # the colour is shown, not said
    for name, target in (("normal", info["first_named"]), ("exchanged", results["exchanged"][1]["target"])):
        assert " ".join(target.split()[named]) in sentences[name]


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
    assert steps == HORIZONS[family] + (FLASH if family == "recall" else 0) == env.horizon


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


def test_the_lamp_shines_for_at_least_two_looks_of_a_policy():
    assert 2 * PolicyConfig().execute <= FLASH


def test_the_lamp_shows_the_targets_colour_and_goes_dark():
    env = Tabletop("recall", cameras="front", quality="fast")
    for seed in range(5):
        pictures = [env.reset(seed=seed)[0], *(env.step(np.zeros(7))[0] for _ in range(FLASH + 2))]
        lamps = [picture["observation.images.front"][7:11, 7:12].reshape(-1, 3).mean(axis=0) for picture in pictures]
        assert all(lamp.max() > 150 for lamp in lamps[:FLASH]) and all(lamp.max() < 60 for lamp in lamps[FLASH:])
        meant = COLOURS[env.reset(seed=seed)[1]["target"].split()[0]].rgb
        assert np.argmax(lamps[0]) == np.argmax(meant)


@pytest.mark.parametrize("family", MIXED)
def test_only_recall_has_a_lamp(family):
    assert Tabletop(family, cameras=()).reset(seed=0) and not Tabletop(family)._scene.lit
    picture = Tabletop(family, cameras="front").reset(seed=0)[0]["observation.images.front"]
    assert np.ptp(picture[4:8, 5:14], axis=(0, 1)).max() == 0  # nothing but the wall


def test_no_hand_can_note_what_the_lamp_shows():
    """What is done in the light is without effect, so that a policy that remembers nothing is at chance."""
    moved, still = Tabletop("recall"), Tabletop("recall")
    moved.reset(seed=1)
    still.reset(seed=1)
    for k in (3, FLASH - 3):
        after = moved.advance(np.ones((k, 7)))[0], still.advance(np.zeros((k, 7)))[0]
        assert _same(*after)
    assert not _same(moved.step(np.ones(7))[0], still.step(np.zeros(7))[0])


def test_a_chunk_that_begins_in_the_light_ends_in_the_dark():
    one, many = Tabletop("recall"), Tabletop("recall")
    one.reset(seed=1)
    many.reset(seed=1)
    result = [one.step(action) for action in RANDOM[: FLASH + 3]][-1]
    assert _same(result[0], many.advance(RANDOM[: FLASH + 3])[0])


def test_the_flash_can_be_longer():
    env = envs.make("tabletop", family="recall", flash=12, cameras=()).unwrapped
    assert isinstance(env, Tabletop) and env.horizon == HORIZONS["recall"] + 12
    env.reset(seed=0)
    lit = [env._scene.lit, *(env.step(np.zeros(7)) and env._scene.lit for _ in range(14))]
    assert lit == [True] * 12 + [False] * 3
    with pytest.raises(ValueError, match="flash: 0 is not a number of control steps; at least 1"):
        Tabletop(flash=0)


def test_no_picture_is_drawn_without_cameras(monkeypatch):
    monkeypatch.setattr("plait.envs.tabletop.scene._renderer", None)
    Tabletop(cameras=()).reset(seed=0)


def test_render_is_a_larger_picture():
    env = Tabletop()
    env.reset(seed=0)
    picture = env.render()
    assert picture is not None and picture.shape == (480, 640, 3) and picture.std() > 20


def test_masks_show_where_each_object_is():
    """An object's own colour stands where its mask is, and only there."""
    env = envs.make("tabletop", family="pick", size=(48, 64))
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        masks = env.unwrapped.masks()
        assert masks.keys() == {"front", "wrist"} and info["target"] in masks["front"]
        every = np.sum(list(masks["front"].values()), axis=0)
        assert every.shape == (48, 64) and every.max() == 1, "no pixel shows two objects"
        for name, mask in masks["front"].items():
            seen = observation["observation.images.front"][mask].astype(float).mean(axis=0)
            rgb = {colour: np.array(COLOURS[colour].rgb) for colour in ("red", "green", "blue", "yellow")}
            near = max(rgb, key=lambda c: rgb[c] @ seen / np.linalg.norm(rgb[c]) / np.linalg.norm(seen))
            assert near == name.split()[0] and mask.sum() > 10
