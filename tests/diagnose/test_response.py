"""The share of a change is that of a policy whose actions are known in closed form."""

import numpy as np
import pytest
import torch

from plait.diagnose.response import MOST, responses
from plait.types import Observation
from policies import small_policy
from reach_env import REACH


def predicting(weight: float, noise: float = 0.0):
    """Actions are ``weight`` times the first entry of the state and the rest of 1 times the second one, and noise."""
    policy = small_policy(spec=REACH, image_size=16)

    def predict(inputs):
        value = inputs.state @ torch.tensor([weight, (1 - weight**2) ** 0.5])
        return value[:, None, None] + noise * torch.randn(len(value), policy.horizon, 1)

    policy.predict = predict
    return policy


def moments(state: np.ndarray) -> Observation:
    return Observation({"top": np.zeros((len(state), 16, 16, 3), np.uint8)}, state, ["go"] * len(state))


def found(weight: float, noise: float = 0.0):
    before, other = np.random.default_rng(0).normal(size=(2, 400, 2)).astype(np.float32)
    after = np.stack([other[:, 0], before[:, 1]], axis=1)
    return responses(predicting(weight, noise), moments(before), {"first": moments(after)}, moments(other))["first"]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_is_the_weight_of_what_is_exchanged(weight):
    response = found(weight)
    assert response.share == pytest.approx(weight, abs=0.03)
    assert response.low <= response.share <= response.high


def test_the_policys_own_noise_is_taken_off():
    assert found(0.0, noise=1.0).share < 0.15
    assert found(0.6, noise=1.0).share == pytest.approx(0.6, abs=0.1)


def test_a_policy_that_never_changes_ignores_everything():
    policy = small_policy(spec=REACH, image_size=16)
    policy.predict = lambda inputs: 1e-7 * inputs.state[:, None, :1].expand(-1, policy.horizon, 1)  # but for rounding
    state = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    response = responses(policy, moments(state), {"a": moments(state + 1)}, moments(state + 2))["a"]
    assert 0 <= response.low <= response.share <= response.high < 1e-5


def test_where_nothing_else_moves_the_actions_the_share_is_finite():
    """Of words alone, as of a policy without cameras: another scene changes nothing, and words decide all."""
    state = np.random.default_rng(0).normal(size=(2, 40, 2)).astype(np.float32)
    alone = responses(predicting(1.0), moments(state[0]), {"a": moments(state[1])}, moments(state[0]))["a"]
    assert (alone.share, alone.low, alone.high) == (MOST, MOST, MOST)


@pytest.mark.parametrize("seed", range(5))
def test_a_policy_of_noise_alone_surely_follows_nothing(seed):
    """What is left of its noise is sometimes negative, above and below."""
    state = np.random.default_rng(seed).normal(size=(3, 40, 2)).astype(np.float32)
    policy = predicting(0.0)
    policy.predict = lambda inputs: torch.randn(len(inputs.state) + seed, policy.horizon, 1)[seed:]
    found = responses(policy, moments(state[0]), {"a": moments(state[1])}, moments(state[2]))["a"]
    assert found.share == found.low == 0
