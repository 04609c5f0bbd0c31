"""From chunks to single actions: one policy drives one robot or a batch of them, with a receding horizon."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float

from plait.policy import Policy
from plait.spec import Spec
from plait.types import Observation


class Controller:
    """Predicts a chunk, hands out its first ``execute`` actions, predicts anew.

    Args:
        policy: in evaluation mode from here on.
        rows: how many robots are driven at once; every observation has this many rows.
        execute: steps of a chunk that are run before replanning; the policy's own value when omitted. A policy with
            memory takes no other: it has learned to look so often.
        ensemble: plan at every step, and average all predictions of that step (``Ensemble``, of which this is the
            ``decay``); None: act on the newest chunk alone.

    Raises:
        ValueError: ``execute`` beyond the policy's horizon, or other than 1 where predictions are averaged, or other
            than the policy's own where it has a memory.
    """

    def __init__(self, policy: Policy, rows: int = 1, execute: int | None = None, ensemble: float | None = None):
        self.policy, self.rows, self.ensemble = policy.eval(), rows, ensemble
        usual = policy.config.execute if ensemble is None else 1
        self.execute = usual if execute is None else execute
        if not 1 <= self.execute <= policy.horizon:
            raise ValueError(f"execute: {self.execute} is not between 1 and the policy's horizon ({policy.horizon})")
        if ensemble is not None and self.execute != 1:
            raise ValueError(f"execute: {self.execute} with an ensemble, which plans at every step; leave execute out")
        if policy.memory is not None and self.execute != policy.config.execute:
            asked = f"execute: {self.execute}" if ensemble is None else f"ensemble: {ensemble:g} plans at every step"
            rule = f"a policy with memory looks every {policy.config.execute} steps, as it has learned to"
            raise ValueError(f"{asked}, but {rule}; leave {asked.split(':')[0]} out")
        actions = len(policy.spec.actions)
        self._ensemble = None if ensemble is None else Ensemble(rows, policy.horizon, actions, ensemble)
        self._queue = np.zeros((rows, self.execute, actions), dtype=np.float32)
        self._used = np.full(rows, self.execute)  # every row starts with an empty queue
        self._memory = policy.start(rows)

    def plan(
        self, observation: Observation, reset: Bool[np.ndarray, " rows"] | None = None
    ) -> Float[np.ndarray, "rows execute a"]:
        """The next ``execute`` actions of every row; rows with ``reset`` forget what they saw and predicted before.

        Raises:
            FloatingPointError: the policy predicts what is not finite.
        """
        return self._plan(observation, reset, np.ones(self.rows, bool))

    def act(
        self, observation: Observation, reset: Bool[np.ndarray, " rows"] | None = None
    ) -> Float[np.ndarray, "rows a"]:
        """The next single action of every row; rows with ``reset`` drop what they had planned. Raises as ``plan``."""
        if reset is not None:
            self._used[np.asarray(reset)] = self.execute
        empty = self._used >= self.execute
        if empty.any():
            # The whole batch is predicted, so that a row's result does not depend on which others are due.
            self._queue[empty] = self._plan(observation, reset, empty)[empty]
            self._used[empty] = 0
        action = self._queue[np.arange(self.rows), self._used]
        self._used += 1
        return action

    def _plan(self, observation: Observation, reset: np.ndarray | None, due: np.ndarray) -> np.ndarray:
        """Only the rows that are ``due`` remember this moment: a memory's moments are ``execute`` steps apart."""
        if len(observation) != self.rows:
            raise ValueError(f"an observation of {len(observation)} rows for a controller of {self.rows}")
        begins = torch.as_tensor(np.zeros(self.rows, bool) if reset is None else np.asarray(reset))
        chunk, memory = self.policy.step(self.policy.prepare(observation), self._memory, begins)
        if memory is not None and self._memory is not None:
            self._memory = memory.where(torch.as_tensor(due, device=memory.mask.device), self._memory)
        chunk = chunk.cpu().numpy()
        refuse_infinite(chunk, self.policy.spec)
        return chunk[:, : self.execute] if self._ensemble is None else self._ensemble.add(chunk, reset)[:, None]


def refuse_infinite(chunk: Float[np.ndarray, "*rows horizon a"], spec: Spec) -> None:
    """Raise a FloatingPointError that names the first entry of a command that no robot can follow."""
    if not (finite := np.isfinite(chunk)).all():
        place = tuple(np.argwhere(~finite)[0])
        raise FloatingPointError(
            f"action: {spec.actions[place[-1]]} is {chunk[place]:g}, which no robot can follow; the weights are "
            "damaged, or the state is far outside of what training saw"
        )


class Ensemble:
    """Temporal ensembling (ACT, https://arxiv.org/abs/2304.13705): a step's action is the mean over every chunk that
    foresaw it, with weight ``exp(-decay * i)``, where i counts from the oldest chunk.

    It smooths the motion. Where several ways are equally good, it averages chunks that may have chosen different ones.

    Args:
        rows, horizon, actions: of the chunks.
        decay: above 0, older predictions weigh more (ACT: 0.01); 0, all the same; below 0, newer ones weigh more.
    """

    def __init__(self, rows: int, horizon: int, actions: int, decay: float):
        if not math.isfinite(decay):
            raise ValueError(f"ensemble: {decay} is no decay of weights; give a finite number, such as 0.01")
        self.decay = decay
        self._chunks = np.zeros((rows, horizon, horizon, actions), dtype=np.float32)  # of each row, the newest first
        self._count = np.zeros(rows, dtype=np.int64)  # how many of them are of this episode

    def add(
        self, chunk: Float[np.ndarray, "rows horizon a"], reset: Bool[np.ndarray, " rows"] | None = None
    ) -> Float[np.ndarray, "rows a"]:
        """Take in the chunks that begin now: the mean prediction of this step. Rows with ``reset`` begin an episode."""
        horizon = chunk.shape[1]
        if reset is not None:
            self._count[np.asarray(reset)] = 0
        self._count = np.minimum(self._count + 1, horizon)
        self._chunks = np.concatenate([chunk[:, None], self._chunks[:, :-1]], axis=1)
        age = np.arange(horizon)
        foreseen = self._chunks[:, age, age]  # the chunk of k steps ago predicts this step as its kth
        oldest = self._count[:, None] - 1
        exponent = np.where(age <= oldest, -self.decay * (oldest - age), -np.inf)
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return np.einsum("rk,rka->ra", weight / weight.sum(axis=1, keepdims=True), foreseen).astype(np.float32)
