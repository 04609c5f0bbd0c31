import numpy as np
import pytest
import torch

from plait.config import members
from plait.control import Controller, Ensemble
from plait.heads import Head
from plait.memory import RecurrentConfig
from plait.policy import Policy
from plait.types import Inputs, Observation
from policies import part, random_observation, small_policy


def _at(step: int) -> Observation:
    return random_observation(rows=2, seed=step)


@pytest.mark.parametrize("head", members(Head))
def test_a_chunk_is_executed_before_the_next_is_predicted(head: str) -> None:
    """Whatever the head. Averaging over all of them is tested in ``evaluate/test_ensemble.py``."""
    policy = small_policy(head=part("head", head))
    controller = Controller(policy, rows=2, execute=3)
    actions = [controller.act(_at(step)) for step in range(5)]
    for start in (0, 3):
        chunk = policy.predict(policy.prepare(_at(start))).numpy()
        for offset, action in enumerate(actions[start : start + 3]):
            np.testing.assert_allclose(action, chunk[:, offset], rtol=1e-5)


def test_a_reset_row_starts_anew_and_the_other_goes_on() -> None:
    policy = small_policy()
    controller = Controller(policy, rows=2, execute=4)
    controller.act(_at(0))
    action = controller.act(_at(1), reset=np.array([True, False]))
    old, new = (policy.predict(policy.prepare(_at(step))).numpy() for step in (0, 1))
    np.testing.assert_allclose(action, [new[0, 0], old[1, 1]], rtol=1e-5)


def test_plan_gives_the_steps_to_execute() -> None:
    policy = small_policy()
    plan = Controller(policy, rows=2).plan(_at(0))
    assert plan.shape == (2, policy.config.execute, 7)
    np.testing.assert_allclose(plan, policy.predict(policy.prepare(_at(0))).numpy()[:, :4], rtol=1e-5)
    assert torch.is_inference_mode_enabled() is False


def test_an_ensemble_weighs_the_oldest_prediction_most() -> None:
    ensemble = Ensemble(rows=1, horizon=3, actions=1, decay=0.5)
    for step in range(5):  # the chunk of step s predicts 10 s + k for the kth action
        mean = ensemble.add(10.0 * step + np.arange(3, dtype=np.float32)[None, :, None])
        chunks = range(max(0, step - 2), step + 1)  # those that foresaw this step, the oldest first
        weights = np.exp(-0.5 * np.arange(len(chunks)))
        expected = np.average([10.0 * start + step - start for start in chunks], weights=weights)
        np.testing.assert_allclose(mean, [[expected]], rtol=1e-5)


@pytest.mark.parametrize(("decay", "expected"), [(1000.0, 1.0), (0.0, 5.5), (-1000.0, 10.0)])
def test_any_decay_gives_a_mean(decay: float, expected: float) -> None:
    ensemble = Ensemble(rows=1, horizon=2, actions=1, decay=decay)
    ensemble.add(np.array([[[0.0], [1.0]]], np.float32))
    np.testing.assert_allclose(ensemble.add(np.array([[[10.0], [11.0]]], np.float32)), [[expected]])


def test_an_ensemble_forgets_the_episode_before_in_the_rows_that_are_reset() -> None:
    policy = small_policy()
    controller = Controller(policy, rows=2, ensemble=0.0)
    controller.act(_at(0), reset=np.array([True, True]))
    action = controller.act(_at(1), reset=np.array([True, False]))
    old, new = (policy.predict(policy.prepare(_at(step))).numpy() for step in (0, 1))
    np.testing.assert_allclose(action, [new[0, 0], (old[1, 1] + new[1, 0]) / 2], rtol=1e-5, atol=1e-7)
    plan = controller.plan(_at(2), reset=np.array([True, True]))
    np.testing.assert_allclose(plan, policy.predict(policy.prepare(_at(2))).numpy()[:, :1], rtol=1e-5)


def _with_memory(**config: object) -> Policy:
    return small_policy(memory=RecurrentConfig(steps=3), **config)


def test_each_row_remembers_its_own_episode() -> None:
    policy = _with_memory()
    both = Controller(policy, rows=2)
    plans = [both.plan(_at(step), reset=np.array([step == 2, False])) for step in range(4)]
    begun = Controller(policy, rows=2)
    late = [begun.plan(_at(step)) for step in (2, 3)]
    through = Controller(policy, rows=2)
    whole = [through.plan(_at(step)) for step in range(4)]
    np.testing.assert_allclose(plans[3], np.stack([late[1][0], whole[3][1]]), rtol=1e-4, atol=1e-6)
    assert not np.allclose(late[1], whole[3], atol=1e-4)


def test_a_row_remembers_only_the_moments_at_which_it_planned() -> None:
    """Row 0 begins anew while row 1 is in the middle of its chunk, which row 1 must not notice."""
    policy = _with_memory(execute=2)
    alone, mixed = Controller(policy, rows=2), Controller(policy, rows=2)
    expected = [alone.act(_at(step))[1] for step in range(5)]
    actions = [mixed.act(_at(step), reset=np.array([step == 1, False]))[1] for step in range(5)]
    np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-6)


def test_a_policy_with_memory_looks_as_often_as_it_has_learned_to() -> None:
    policy = _with_memory()
    rule = "but a policy with memory looks every 4 steps, as it has learned to; leave"
    with pytest.raises(ValueError, match=f"^execute: 2, {rule} execute out$"):
        Controller(policy, execute=2)
    for how in ({}, {"execute": 1}):  # what is named is what was asked for
        with pytest.raises(ValueError, match=f"^ensemble: 0.01 plans at every step, {rule} ensemble out$"):
            Controller(policy, ensemble=0.01, **how)
    Controller(policy, execute=4)
    Controller(_with_memory(execute=1), ensemble=0.01)


@pytest.mark.parametrize("ensemble", [None, 0.01])
def test_a_command_that_is_not_finite_reaches_no_robot(ensemble: float | None) -> None:
    policy = small_policy()
    controller, predict = Controller(policy, rows=2, ensemble=ensemble), policy.predict

    def broken(inputs: Inputs) -> torch.Tensor:
        chunk = predict(inputs).clone()
        chunk[1, 2, 1] = torch.inf
        return chunk

    policy.predict = broken
    for how in (controller.plan, controller.act):
        with pytest.raises(FloatingPointError, match="action: y is inf, which no robot can follow; the weights are"):
            how(_at(0))


def test_errors() -> None:
    policy = small_policy()
    for execute in (0, 9):
        with pytest.raises(ValueError, match=f"execute: {execute} is not between 1 and the policy's horizon"):
            Controller(policy, execute=execute)
    with pytest.raises(ValueError, match="execute: 4 with an ensemble, which plans at every step; leave execute out"):
        Controller(policy, execute=4, ensemble=0.01)
    with pytest.raises(ValueError, match="ensemble: nan is no decay"):
        Controller(policy, ensemble=float("nan"))
    with pytest.raises(ValueError, match="2 rows for a controller of 1"):
        Controller(policy).plan(_at(0))
