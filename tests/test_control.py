import numpy as np
import pytest
import torch

from plait.control import Controller
from plait.types import Observation
from policies import random_observation, small_policy


def _at(step: int) -> Observation:
    return random_observation(rows=2, seed=step)


def test_a_chunk_is_executed_before_the_next_is_predicted() -> None:
    policy = small_policy()
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


def test_errors() -> None:
    policy = small_policy()
    with pytest.raises(ValueError, match="execute: 9 is not between 1 and the policy's horizon"):
        Controller(policy, execute=9)
    with pytest.raises(ValueError, match="2 rows for a controller of 1"):
        Controller(policy).plan(_at(0))
