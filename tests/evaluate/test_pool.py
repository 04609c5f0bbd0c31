"""The pool's mechanics on a small foreign environment: real processes, real shared memory."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from plait.evaluate.pool import Episode, Pool, Workers
from plait.evaluate.rollout import rollouts
from plait.evaluate.worker import Scenes
from reach_env import HORIZON, ID, Reach


def obey(observation):
    """Go where the words say; a little differently in every row, as a policy with batch effects would."""
    side = np.array([{"go left": -1, "go right": 1}.get(words, 0) for words in observation.instruction])
    rows = 0.9 + 0.01 * np.arange(len(side))
    return np.repeat((side * rows)[:, None, None], 3, axis=1)


def run(plan=obey, n=11, slots=4, workers=2, **scenes) -> list[Episode]:
    with Workers(workers) as staff:
        return run_with(staff, plan, n, slots, **scenes)


def run_with(staff: Workers, plan=obey, n=11, slots=4, **scenes) -> list[Episode]:
    setting = Scenes(ID, tuple(range(100, 100 + n)), **scenes)
    with setting.make() as env:
        pool = Pool(setting, env, slots, 3, staff)
    return sorted(rollouts(plan, pool), key=lambda episode: episode.index)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return run()


def test_every_episode_runs_once_with_its_own_seed(episodes):
    assert [episode.index for episode in episodes] == list(range(11))
    assert [episode.seed for episode in episodes] == list(range(100, 111))
    assert {episode.instruction for episode in episodes} == {"go left", "go right"}


def test_obeying_succeeds_and_the_chunk_is_cut_at_the_end(episodes):
    assert all(episode.success for episode in episodes)
    assert {len(episode.actions) for episode in episodes} <= {3, 4, 5}  # the second chunk of 3 is not used up


def test_the_number_of_workers_changes_nothing(episodes):
    for one, other in zip(run(workers=1), episodes, strict=True):
        assert one.row() == other.row()
        np.testing.assert_array_equal(one.actions, other.actions)


def test_slot_s_runs_every_nth_episode(episodes):
    # The plan above acts by row, so that the actions show which slot an episode ran in.
    assert [round((abs(float(e.actions[0, 0])) - 0.9) * 100) for e in episodes] == [i % 4 for i in range(11)]


def test_the_policy_always_sees_the_full_batch():
    rows = []

    def idle(observation):
        rows.append((len(observation), observation.images["top"].shape, observation.state.shape))
        return np.zeros((4, 3, 1))

    episodes = run(idle, n=5, instructions="absent")
    assert set(rows) == {(4, (4, 16, 16, 3), (4, 2))}
    assert [len(episode.actions) for episode in episodes] == [HORIZON] * 5
    assert not any(episode.success or episode.instruction for episode in episodes)


def test_observations_are_those_of_the_environment():
    seen = []

    def watch(observation):
        seen.append((observation.images["top"][0, 0, 0, 0], observation.state[0, 1]))
        return np.zeros((1, 3, 1))

    run(watch, n=1, slots=1)
    assert seen == [(0, 0), (180, 3), (360 % 256, 6), (540 % 256, 9)]


def test_a_dead_worker_is_named():
    with pytest.raises(RuntimeError, match=r"worker 1 .* ended with status 7 while it ran the episodes \[1, 3\]"):
        run(env_args={"fail": "die", "fail_seed": 103}, plan=lambda _: np.zeros((4, 3, 1)))


def test_a_failing_environment_is_named():
    with pytest.raises(RuntimeError, match=r"episode 2 \(seed 102\): ArithmeticError: the point has left the plane"):
        run(env_args={"fail": "raise", "fail_seed": 102}, plan=lambda _: np.zeros((4, 3, 1)))


def test_other_observation_spaces_are_refused():
    setting = Scenes("CartPole-v1", (0,))
    with Workers() as staff, pytest.raises(ValueError, match=r"observes Box.*expected a Dict with 'observation.images"):
        Pool(setting, setting.make(), 1, 1, staff)


def test_arguments_must_fit_into_a_message():
    setting = Scenes(ID, (0,), {"fail": Path("a file")})
    with Workers() as staff, pytest.raises(ValueError, match=r"env_args .*Path is not JSON serializable; give numbers"):
        Pool(setting, gymnasium.make(ID), 1, 1, staff)


def test_an_environment_that_only_the_script_knows_is_told_with_the_remedy():
    gymnasium.register("OnlyHere-v0", Reach)
    setting = Scenes("OnlyHere-v0", (0,))
    missing = pytest.raises(ValueError, match=r"no environment 'OnlyHere-v0'.*as in 'module:id'")
    with Workers(1) as staff, setting.make() as env, missing:
        Pool(setting, env, 1, 1, staff)


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_shared_memory_has_no_name_that_could_be_left_behind():
    def shared() -> set[tuple[str, ...]]:
        """Number and name of the files that this process shares; of one without a name it says that it is deleted."""
        lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
        return {tuple(line[4:]) for line in lines if line[1].endswith("s") and len(line) > 5}

    before, setting = shared(), Scenes(ID, (0, 1))
    with setting.make() as env, Workers(1) as staff:
        pool = Pool(setting, env, 2, 1, staff)
        made = shared() - before
        assert made and all(name.endswith("(deleted)") for _, name in made), pool


def assert_same(found: list[Episode], expected: list[Episode]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.row() == other.row()
        np.testing.assert_array_equal(one.actions, other.actions)


def numbers(staff: Workers) -> list[int]:
    """Of the processes."""
    return [worker.process.pid for worker in staff._started]


def test_workers_that_stay_find_what_new_ones_find(episodes):
    """Whatever they did before: with more slots or fewer, other words, or in a pool that was left in the middle."""
    with Workers(2) as staff:
        first, then = run_with(staff, n=3, slots=1, instructions="absent"), run_with(staff)
        one, two = numbers(staff)
        assert_same(then, episodes)
        assert_same(first, run(n=3, slots=1, instructions="absent"))
        run_with(staff, n=9, slots=9)
        assert numbers(staff) == [one, two]
        assert_same(run_with(staff), episodes)


def test_a_pool_that_was_left_waiting_leaves_no_answer_to_the_next_one(episodes):
    with Workers(2) as staff:
        run_with(staff)
        before = numbers(staff)
        staff._started[1].receive = interrupted
        with pytest.raises(KeyboardInterrupt):
            run_with(staff)
        assert_same(run_with(staff), episodes)
        assert not set(numbers(staff)) & set(before)


def interrupted():
    raise KeyboardInterrupt


def test_after_a_dead_worker_there_are_new_ones_and_none_is_left_behind(episodes):
    with Workers(2) as staff:
        with pytest.raises(RuntimeError, match=r"worker 1 .* ended with status 7"):
            run_with(staff, env_args={"fail": "die", "fail_seed": 103}, plan=lambda _: np.zeros((4, 3, 1)))
        assert_same(run_with(staff), episodes)
        processes = [worker.process for worker in staff._started]
        assert all(process.poll() is None for process in processes)
    assert all(process.poll() is not None for process in processes)
