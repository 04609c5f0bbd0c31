import numpy as np

from plait.envs.tabletop.env import Tabletop
from plait.record.pushes import CHANCE, STEPS, Pushes
from plait.record.worker import demonstrate
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
    expected = CHANCE * STEPS / (1 + CHANCE * (STEPS - 1))
    assert abs(moved.mean() - expected) < 0.03
    changes = np.flatnonzero(np.diff(moved.astype(int)))
    lengths = np.diff(changes)[::2] if moved[changes[0] + 1] else np.diff(changes)[1::2]
    assert lengths.min() == STEPS and (lengths % STEPS == 0).all()


def test_no_push_leaves_the_limits():
    pushed = Pushes(SPEC, 5.0, 0)
    assert max(np.abs(pushed(ACTION)).max() for _ in range(200)) == 1.0


def test_the_recorded_action_is_the_experts_own():
    env = Tabletop("pick", cameras=())
    episode = demonstrate(env, seed=5, pushes=1.0)
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
    assert demonstrate(env, seed=5, longest=steps - 1) is None
    exact = demonstrate(env, seed=5, longest=steps)
    assert exact is not None and np.array_equal(exact.action, whole.action)
