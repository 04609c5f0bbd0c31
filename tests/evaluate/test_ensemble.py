"""Temporal ensembling in closed loop, whatever the head: what is executed is worked out anew from all chunks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from plait.config import members
from plait.evaluate import rollout
from plait.evaluate.pool import Workers
from plait.heads import Head
from policies import part, small_policy
from reach_env import HORIZON, ID, REACH

DECAY = 0.5


@pytest.fixture(scope="module")
def staff() -> Iterator[Workers]:
    with Workers(1) as staff:
        yield staff


@pytest.mark.parametrize("head", members(Head))
def test_every_head_executes_the_mean_of_all_chunks_of_its_episode(
    head: str, staff: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one slot, one episode follows the other."""
    policy = small_policy(spec=REACH, image_size=16, head=part("head", head))
    step, drive = policy.step, rollout.rollouts
    chunks: list[np.ndarray] = []
    episodes: list[Any] = []

    def watched(inputs: Any, memory: Any, reset: Any) -> Any:
        chunk, memory = step(inputs, memory, reset)
        chunk = chunk / chunk.abs().max() / 5  # so slow that no episode ends early
        chunks.append(chunk[0].numpy())
        return chunk, memory

    def kept(*arguments: Any) -> Iterator[Any]:
        for episode in drive(*arguments):
            episodes.append(episode)
            yield episode

    policy.step = watched
    monkeypatch.setattr(rollout, "rollouts", kept)
    rollout.evaluate(policy, ID, episodes=2, ensemble=DECAY, slots=1, workers=staff, quiet=True)
    assert len(chunks) == 2 * HORIZON and policy.horizon < HORIZON, "chunks drop out of the mean"
    for episode, planned in zip(episodes, (chunks[:HORIZON], chunks[HORIZON:]), strict=True):
        np.testing.assert_allclose(episode.actions, list(means(planned)), rtol=1e-4, atol=1e-6)
        assert not np.allclose(episode.actions, [chunk[0] for chunk in planned], atol=1e-3), "the newest chunk alone"


def means(chunks: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Of each step: every chunk that foresaw it, the oldest first, which weighs most."""
    for now in range(len(chunks)):
        begun = range(max(0, now - len(chunks[0]) + 1), now + 1)
        weights = np.exp(-DECAY * np.arange(len(begun)))
        yield np.average([chunks[start][now - start] for start in begun], axis=0, weights=weights)
