"""From chunks to single actions: one policy drives one robot or a batch of them, with a receding horizon."""

import numpy as np
from jaxtyping import Bool, Float

from plait.policy import Policy
from plait.types import Observation


class Controller:
    """Predicts a chunk, hands out its first ``execute`` actions, predicts anew.

    Args:
        policy: in evaluation mode from here on.
        rows: how many robots are driven at once; every observation has this many rows.
        execute: steps of a chunk that are run before replanning; the policy's own value when omitted.
    """

    def __init__(self, policy: Policy, rows: int = 1, execute: int | None = None):
        self.policy, self.rows = policy.eval(), rows
        self.execute = execute or policy.config.execute
        if not 1 <= self.execute <= policy.horizon:
            raise ValueError(f"execute: {self.execute} is not between 1 and the policy's horizon ({policy.horizon})")
        self._queue = np.zeros((rows, self.execute, len(policy.spec.actions)), dtype=np.float32)
        self._used = np.full(rows, self.execute)  # every row starts with an empty queue

    def plan(self, observation: Observation) -> Float[np.ndarray, "rows execute a"]:
        """The next ``execute`` actions of every row."""
        if len(observation) != self.rows:
            raise ValueError(f"an observation of {len(observation)} rows for a controller of {self.rows}")
        chunk = self.policy.predict(self.policy.prepare(observation))
        return chunk[:, : self.execute].cpu().numpy()

    def act(
        self, observation: Observation, reset: Bool[np.ndarray, " rows"] | None = None
    ) -> Float[np.ndarray, "rows a"]:
        """The next single action of every row; rows with ``reset`` drop what they had planned."""
        if reset is not None:
            self._used[np.asarray(reset)] = self.execute
        empty = self._used >= self.execute
        if empty.any():
            # The whole batch is predicted, so that a row's result does not depend on which others are due.
            self._queue[empty] = self.plan(observation)[empty]
            self._used[empty] = 0
        action = self._queue[np.arange(self.rows), self._used]
        self._used += 1
        return action
