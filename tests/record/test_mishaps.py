from dataclasses import replace

import numpy as np
import pytest

from plait.envs.tabletop.env import Tabletop
from plait.record.demonstration import DemonstrationConfig, demonstrate
from plait.record.mishaps import PUSH_CHANCE, PUSH_STEPS, SLIP_STEPS, Pushes, Slips
from plait.spec import Spec

SPEC = Spec({}, ("x",), ("gripper", "z", "rx", "x"), gripper="positive_closes")
ACTION = np.array([0.5, 0.25, 0.5, 0.0], np.float32)


def executed(strength: float, seed: int, steps: int = 4000) -> np.ndarray:
    pushed = Pushes(SPEC, strength, seed)
    return np.stack([pushed(ACTION) for _ in range(steps)])


def test_pushes_move_x_y_z_alone_and_follow_from_the_seed():
    found = executed(0.6, seed=3)
    assert np.array_equal(found, executed(0.6, seed=3)) and not np.array_equal(found, executed(0.6, seed=4))
    assert (found[:, [0, 2]] == ACTION[[0, 2]]).all()
    assert np.abs(found[:, [1, 3]] - ACTION[[1, 3]]).max() <= 0.6
    assert np.array_equal(executed(0.0, seed=3), np.tile(ACTION, (4000, 1)))


def test_pushes_last_some_steps_with_rests_between():
    moved = (executed(0.6, seed=0) != ACTION).any(axis=1)
    expected = PUSH_CHANCE * PUSH_STEPS / (1 + PUSH_CHANCE * (PUSH_STEPS - 1))
    assert abs(moved.mean() - expected) < 0.03
    changes = np.flatnonzero(np.diff(moved.astype(int)))
    lengths = np.diff(changes)[::2] if moved[changes[0] + 1] else np.diff(changes)[1::2]
    assert lengths.min() == PUSH_STEPS and (lengths % PUSH_STEPS == 0).all()


def test_no_push_leaves_the_limits():
    pushed = Pushes(SPEC, 5.0, 0)
    assert max(np.abs(pushed(ACTION)).max() for _ in range(200)) == 1.0


def test_the_recorded_action_is_the_experts_own():
    env = Tabletop("pick", cameras=())
    episode = demonstrate(env, seed=5, how=DemonstrationConfig(pushes=1.0))
    assert episode is not None
    env.reset(seed=5)
    expert, pushed, differ = env.expert(), Pushes(env.embodiment, 1.0, 5), 0
    for recorded in episode.action:
        wanted = expert.action()
        assert np.array_equal(recorded, wanted)
        done = pushed(wanted)
        differ += not np.array_equal(done, wanted)
        env.step(done)
    assert differ


def test_a_demonstration_that_takes_too_long_is_none() -> None:
    env = Tabletop("pick", cameras=())
    whole = demonstrate(env, seed=5)
    assert whole is not None
    steps = len(whole.action)
    assert demonstrate(env, seed=5, how=DemonstrationConfig(longest=steps - 1)) is None
    exact = demonstrate(env, seed=5, how=DemonstrationConfig(longest=steps))
    assert exact is not None and np.array_equal(exact.action, whole.action)


def slipped(
    chance: float, seed: int, action: np.ndarray, gripper: str = "positive_closes", steps: int = 2000
) -> np.ndarray:
    slips = Slips(replace(SPEC, gripper=gripper), chance, seed)
    return np.stack([slips(action, action) for _ in range(steps)])


def test_slips_open_the_gripper_for_some_steps_and_follow_from_the_seed():
    found = slipped(0.02, 3, ACTION)
    assert np.array_equal(found, slipped(0.02, 3, ACTION)) and not np.array_equal(found, slipped(0.02, 4, ACTION))
    assert (found[:, 1:] == ACTION[1:]).all() and set(found[:, 0]) == {0.5, -1.0}
    changes = np.flatnonzero(np.diff((found[:, 0] < 0).astype(int)))
    lengths = np.diff(changes)[::2] if found[0, 0] > 0 else np.diff(changes)[1::2]
    assert lengths.min() == SLIP_STEPS and abs((found[:, 0] < 0).mean() - 0.16 / 1.16) < 0.05
    assert np.array_equal(slipped(0.0, 3, ACTION), np.tile(ACTION, (2000, 1)))


def test_only_a_gripper_that_closes_slips_whichever_sign_closes_it():
    assert np.array_equal(slipped(0.5, 0, -ACTION), np.tile(-ACTION, (2000, 1)))
    assert set(slipped(0.5, 0, -ACTION, "positive_opens")[:, 0]) == {-0.5, 1.0}
    assert np.array_equal(slipped(0.5, 0, ACTION, "positive_opens"), np.tile(ACTION, (2000, 1)))


@pytest.mark.parametrize("spec", [replace(SPEC, gripper=None), replace(SPEC, actions=("x", "y"))], ids=str)
def test_slips_of_what_is_no_gripper_are_refused(spec: Spec):
    with pytest.raises(ValueError, match=r"slips: 0\.1, but this robot has no gripper that could slip"):
        Slips(spec, 0.1, 0)
    assert Slips(spec, 0.0, 0)(ACTION, ACTION) is ACTION


def test_an_expert_grasps_again_what_slipped():
    """While the fingers are held open the recorded action closes them, and the episode takes longer."""
    env, how = Tabletop("pick", cameras=()), DemonstrationConfig(slips=0.1)
    lengths, against = [], 0
    for seed in range(7, 13):
        clean, disturbed = demonstrate(env, seed), demonstrate(env, seed, how=how)
        assert clean is not None and disturbed is not None
        mishaps = how.mishaps(env.embodiment, seed)
        against += sum(wanted[-1] > 0 > mishaps(wanted)[-1] for wanted in disturbed.action)
        lengths.append(len(disturbed.action) - len(clean.action))
    assert max(lengths) > SLIP_STEPS and against > 2 * SLIP_STEPS


def test_each_try_slips_in_its_own_way():
    first, second = (Slips(SPEC, 0.1, 0, attempt) for attempt in (0, 1))
    assert [first(ACTION, ACTION)[0] for _ in range(99)] != [second(ACTION, ACTION)[0] for _ in range(99)]


def test_the_longest_demonstration_is_one_until_success():
    env = Tabletop("pick", cameras=())
    whole = demonstrate(env, seed=5)
    assert whole is not None
    how = DemonstrationConfig(longest=len(whole.action), dwell=4)
    dwelling = demonstrate(env, 5, how=how)
    assert dwelling is not None and len(dwelling.action) == len(whole.action) + 4
