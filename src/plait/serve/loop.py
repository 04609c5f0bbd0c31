"""A policy and a robot in one process, at a fixed rate: control never waits for the policy.

loop = ControlLoop(policy, envs.make("tabletop"), instruction="pick up the red ball")
print(loop.run(ticks=300))
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from jaxtyping import Float

from plait.config import refuse_small
from plait.memory.history import History
from plait.nn.device import Precision
from plait.policy import Policy
from plait.safety.calibration import Calibration
from plait.safety.envelope import RECOVERING, Envelope, SafetyConfig
from plait.safety.limits import HELD_BACK
from plait.safety.modes import Mode
from plait.serve.batching import CLOSE_S, Answer, Engine, Hung, Question, as_failed, responsive
from plait.serve.keys import Keys, accepted, agree, observed, taken
from plait.serve.metrics import Report, percentiles
from plait.serve.watchdog import Watchdog, terminable
from plait.types import Observation

RECENT = 8  # predictions by which it is told how long the next one takes


@runtime_checkable
class Robot(Protocol):
    """What a robot offers. It may also have ``reset()``, which is called before each run and begins an episode, and
    ``ended``, which is True when there is nothing left to do.

    When ``observe`` or ``act`` does not return, ``act`` is called with a hold from another thread (``Simulated`` alone
    is left as it is).
    """

    def observe(self) -> Mapping[str, Any]:
        """The newest pictures and state, under any of the names in ``plait.serve.keys``; returns at once."""
        ...

    def act(self, action: Float[np.ndarray, " a"]) -> None:
        """Begin to do this; returns at once."""
        ...


class Simulated:
    """A gymnasium environment as a robot: it stands still between two actions. Its spaces have LeRobot's names.

    Args:
        seed: of the first episode, 1 more for each that follows; None: another scene each time.
    """

    def __init__(self, env: gymnasium.Env, seed: int | None = None) -> None:
        self.env, self.seed = env, seed

    def reset(self) -> None:
        self.observation, self.info = self.env.reset(seed=self.seed)
        self.seed = None if self.seed is None else self.seed + 1
        self.ended = self.success = False

    def observe(self) -> Mapping[str, Any]:
        return {"task": str(self.info.get("task", "")), **self.observation}

    def act(self, action: Float[np.ndarray, " a"]) -> None:
        self.observation, _, terminated, truncated, info = self.env.step(action)
        self.info = {**self.info, **info}
        self.success |= bool(info.get("is_success"))
        self.ended = bool(terminated or truncated)


@dataclass(frozen=True)
class Stamp:
    """Of one action: its number, from 1 on; how old the observation was from which it was computed (a hold: the newest
    one) when it left; and the age from which on it must not be executed any more."""

    sequence: int = 0
    age_ms: float = math.inf
    valid_until_ms: float = 0.0


@dataclass
class _Asked:
    """A question on its way."""

    answer: Future[list[Answer | Exception]]
    tick: int
    seen: float  # when its observation was made
    present: tuple[str, ...]  # the modalities that the policy had
    dropped: bool  # the robot stood then or since: its chunk is not to be executed


@dataclass
class _Plan:
    """Chunks on the way: what is to be done at which step, and from which observation it came."""

    memory: History | None = None
    chunk: Float[np.ndarray, "horizon a"] | None = None
    first: int = 0  # the step that the chunk begins with
    seen: float = -np.inf  # when its observation was made
    asked: _Asked | None = None
    asking: float | None = None  # since when the policy, asked, has answered nothing
    failure: str = ""  # what it has failed with instead of its last answer
    last: float = -np.inf  # the step at which was asked last
    left: list[float] = field(default_factory=list)  # when each action did
    late: list[float] = field(default_factory=list)
    infer: list[float] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)  # of the same predictions, in steps
    modes: list[str] = field(default_factory=list)
    reasons: tuple[str, ...] = ()  # the last ones that there were, but for the one that it recovers
    starved: int = 0

    def at(self, tick: int) -> Float[np.ndarray, " a"] | None:
        place = tick - self.first
        return self.chunk[place] if self.chunk is not None and 0 <= place < len(self.chunk) else None

    def due(self, execute: int) -> float:
        """The step at which to ask again: ``execute`` after the last time, and before what is planned ends."""
        ends = np.inf if self.chunk is None else self.first + len(self.chunk)
        return min(self.last + execute, ends - max(self.delays[-RECENT:], default=0))

    def take(self, chunk: Float[np.ndarray, "horizon a"], first: int, seen: float, now: int, blend: int) -> None:
        """A new chunk, of which the steps before ``now`` are over; its next ``blend`` ones begin as the old one."""
        chunk = chunk.copy()
        for i in range(blend):
            if now + i - first < len(chunk) and (old := self.at(now + i)) is not None:
                weight = (i + 1) / (blend + 1)
                chunk[now + i - first] = weight * chunk[now + i - first] + (1 - weight) * old
        self.chunk, self.first, self.seen = chunk, first, seen

    def tell(self, *reasons: str) -> None:
        self.reasons = tuple(dict.fromkeys(why for why in reasons if why not in ("", RECOVERING))) or self.reasons

    @property
    def achieved(self) -> float:
        """Actions per second; 0 for fewer than two."""
        return (len(self.left) - 1) / max(1e-9, self.left[-1] - self.left[0]) if self.left else 0.0

    def drop(self) -> None:
        """The robot stands: what was planned is not done later, nor what is being predicted."""
        self.chunk = None
        if self.asked:
            self.asked.dropped = True

    def leave(self, patience: float) -> None:
        """Wait for what is being predicted, for so many seconds at most."""
        if self.asked and not self.asked.answer.cancel():
            wait([self.asked.answer], patience)


class ControlLoop:
    """Observes, acts, and meanwhile predicts the next chunk in another thread.

    A prediction begins every ``execute`` steps; earlier where the chunk would end before the next one is there, but not
    for a policy with memory, whose moments are equally far apart. It is about the moment of its observation: when it is
    there, the steps that have passed meanwhile are left out, and the seam is blended. Until then the robot goes on with
    the chunk before; where that ends first, it holds.

    While it is in ``hold`` or ``stopped``, and when the watchdog has commanded a hold, the chunk is dropped, and so is
    what is being predicted: the robot stands until there is an answer to a question that was asked later. A prediction
    that fails drops the chunk too, and is asked for again: the robot stands until one succeeds.

    Before each ``act``, ``stamp`` is set to that of its action.

    Args:
        policy: on its device; it belongs to the loop from here on.
        robot: an object with ``observe`` and ``act``, or a gymnasium environment.
        rate: steps per second; the policy's own when None.
        instruction: what the robot is told, where its observations do not say.
        execute: steps between two predictions; the policy's own when None. A policy with memory takes no other.
        blend: steps over which one chunk passes into the next.
        envelope: of this robot, made for the same rate; the usual one, with ``calibration``, when None.
        calibration: what the envelope goes by, such as ``Calibration.find(checkpoint, policy)``; without it, only the
            words are known, and the robot holds as soon as anything fails.
        precision: number format in which the policy multiplies; evaluations have float32.
        compile: ``torch.compile`` the policy first, which takes half a minute to two and a C++ compiler.

    Raises:
        ValueError: a rate that is not known or not the envelope's, a number that is too small, or no compiler.
    """

    def __init__(
        self,
        policy: Policy,
        robot: Robot | gymnasium.Env,
        *,
        rate: float | None = None,
        instruction: str = "",
        execute: int | None = None,
        blend: int = 2,
        envelope: Envelope | None = None,
        calibration: Calibration | None = None,
        precision: Precision = "float32",
        compile: bool = False,
    ) -> None:
        given = rate or policy.spec.rate
        if given is None:
            raise ValueError("rate: the policy does not know it; give the control steps per second")
        refuse_small(rate=(given, 1e-3), execute=(execute, 1), blend=(blend, 0))
        self.execute = policy.config.execute if execute is None else execute
        learned = None if policy.memory is None else policy.config.execute
        if self.execute > policy.horizon or learned not in (None, self.execute):
            rule = f"at most {policy.horizon}" if learned is None else f"{learned}, as it has learned"
            raise ValueError(f"execute: {self.execute}; this policy takes {rule}")
        self.policy, self.rate, self.instruction, self.blend = policy, given, instruction, blend
        self.robot = Simulated(robot) if isinstance(robot, gymnasium.Env) else robot
        longest = SafetyConfig(stale_after=max(SafetyConfig.stale_after, policy.horizon))
        spec = replace(policy.spec, rate=given)
        self.envelope = envelope or Envelope(spec, longest, calibration or Calibration.of(policy))
        if self.envelope.rate != given:
            raise ValueError(
                f"envelope: made for {self.envelope.rate:g} steps per second, the loop has {given:g}; make it of "
                f"replace(policy.spec, rate={given:g})"
            )
        self.engine = Engine(policy, batch=1, compiled=compile, precision=precision)
        self.engine.warm_up()
        self._known = accepted(policy.spec)
        self._thread = ThreadPoolExecutor(1, "plait-inference")  # of all runs: one prediction at a time
        self._interrupted = False  # the watchdog has commanded a hold since the last tick
        self.stamp, self._seen = Stamp(), -math.inf  # when the newest observation was made

    def run(self, ticks: int) -> Report:
        """An episode of at most so many steps, at the fixed rate; it ends early when the robot has ``ended``.

        The memory begins anew, and where the robot has ``reset``, the envelope too. Otherwise its mode stays, and only
        ``loop.envelope.reset()`` ends a stop. Whatever ends the run, an error or Ctrl-C as well, the last thing that
        the robot is told is to hold, unless it has ``ended``. In the main thread, SIGTERM is as Ctrl-C, unless it has
        a handler already. It is told to hold too when ``observe`` or ``act`` does not return for as many steps as the
        envelope's ``silent_after``, from the first ``act`` on; when it has returned, the envelope holds for that
        too. A prediction that hangs is not waited for, and one that fails does not end the run.

        Raises:
            TypeError: ``observe`` returned no mapping.
            ValueError: the first observation does not fit the policy; the sentence says what differs.
            RuntimeError: the robot is stopped, and has no ``reset``.
            Hung: the first prediction takes longer than its chunk would last, and than 5 s.
        """
        refuse_small(ticks=(ticks, 1))
        self._begin()
        plan = _Plan(self.policy.start(1))
        keys = agree(self._told(), self.policy.spec, self._known)
        watchdog = Watchdog((self.envelope.config.silent_after + 1) / self.rate, self._stalled)
        try:
            with responsive(), terminable(), self._held_at_last(), watchdog:
                self._run(ticks, plan, keys, watchdog)
        finally:
            plan.leave(1 / self.rate + max(plan.infer, default=0.0) / 1e3)
        return Report(
            ticks=len(plan.late),
            rate=self.rate,
            achieved=plan.achieved,
            misses=sum(late > 1e3 / self.rate for late in plan.late),
            starved=plan.starved,
            late_ms=percentiles(plan.late),
            infer_ms=percentiles(plan.infer),
            delay=max(plan.delays, default=0),
            stalls=watchdog.stalls,
            modes=dict(Counter(plan.modes)),
            reasons=plan.reasons,
        )

    def _begin(self) -> None:
        self._interrupted = False
        if reset := getattr(self.robot, "reset", None):
            reset()
            self.envelope.reset()
            return
        if self.envelope.mode is Mode.STOPPED:
            why = "; ".join(self.envelope.reasons)
            raise RuntimeError(f"stopped ({why}): see to the robot; it moves again after loop.envelope.reset()")
        self.envelope.resume()

    @contextmanager
    def _held_at_last(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the first error is the one to be told
                self._hold()
            raise
        self._hold()

    def _stalled(self) -> None:
        if not isinstance(self.robot, Simulated):  # which stands still meanwhile, and takes no step from two threads
            self._interrupted = True
            self._act(self._still, self._seen)

    def _hold(self) -> None:
        if not getattr(self.robot, "ended", False):
            self._act(self.envelope.still(), self._seen)

    def _act(self, action: Float[np.ndarray, " a"], seen: float) -> None:
        valid = self.envelope.config.stale_after / self.rate
        self.stamp = Stamp(self.stamp.sequence + 1, 1e3 * (time.monotonic() - seen), 1e3 * valid)
        self.robot.act(action)

    def _run(self, ticks: int, plan: _Plan, keys: Keys, watchdog: Watchdog) -> None:
        due = time.monotonic()
        for tick in range(ticks):
            message = self._told()
            seen, self._seen = observed(message, keys, self.policy.spec), (now := time.monotonic())
            if tick:
                self._tell_silence(plan, now)
            judged = self.envelope.judge(seen, now, taken(message, now, self.policy.spec))
            if judged.mode.stands or self._interrupted:
                plan.drop()
                self._interrupted = False
            if plan.asked and plan.asked.answer.done():
                self._receive(plan, plan.asked, tick)
            if plan.asking is not None:
                self.envelope.unanswered(now, now - plan.asking, self.policy.horizon, plan.failure)
            if plan.asked is None and self.envelope.mode.asks and self._is_due(plan, tick):
                self._ask(plan, judged.observation, tick, now)
            if tick == 0 and plan.asked:  # there is nothing to do meanwhile
                patience = max(CLOSE_S, self.policy.horizon / self.rate)
                if wait([plan.asked.answer], patience).not_done:
                    raise Hung(f"the policy has not answered for {patience:.1f} s; it is given up")
                self._receive(plan, plan.asked, tick)
                due = time.monotonic()
            action, since = self._allowed(plan, tick)
            plan.left.append(time.monotonic())
            plan.late.append(1e3 * (plan.left[-1] - due))
            self._still = self.envelope.still()
            watchdog.feed()
            self._act(action, since)
            watchdog.feed()
            if getattr(self.robot, "ended", False):
                return
            due = max(due + 1 / self.rate, plan.left[-1])  # what is late is not made up in a rush
            time.sleep(max(0.0, due - time.monotonic()))

    def _tell_silence(self, plan: _Plan, now: float) -> None:
        """What the watchdog's thread may have seen, but the envelope is this one's. That the first prediction took long
        is no silence of the robot.
        """
        if isinstance(self.robot, Simulated):
            return
        late = math.ceil((now - plan.left[-1]) * self.rate) - self.envelope.config.silent_after
        for _ in range(min(late, self.envelope.config.hold_after)):  # once a tick until it holds, as a watchdog would
            self.envelope.silent(now)
            plan.tell(*self.envelope.reasons)

    def _is_due(self, plan: _Plan, tick: int) -> bool:
        if self.policy.memory is not None:
            return tick % self.execute == 0
        return tick >= plan.due(self.execute) or (plan.chunk is None and not self.envelope.mode.stands)

    def _ask(self, plan: _Plan, observation: Observation, tick: int, seen: float) -> None:
        answer = self._thread.submit(self.engine, [Question(observation, plan.memory, not plan.infer)])
        plan.asking = seen if plan.asking is None else plan.asking
        plan.asked, plan.last = _Asked(answer, tick, seen, self.envelope.present, self.envelope.mode.stands), tick

    def _receive(self, plan: _Plan, asked: _Asked, tick: int) -> None:
        plan.asked = None
        try:
            answer = asked.answer.result()[0]
        except Exception as error:
            answer = error
        if isinstance(answer, ValueError) and asked.tick == 0:  # it does not fit
            raise answer
        if isinstance(answer, Exception):
            plan.failure = str(as_failed(answer))
            plan.drop()
            return
        plan.memory, plan.asking, plan.failure = answer.memory, None, ""
        plan.infer.append(answer.infer_ms)
        plan.delays.append(max(tick - asked.tick, math.ceil(answer.infer_ms * self.rate / 1e3)))
        self.envelope.notice(answer.features, asked.present)
        if self.envelope.mode.stands:
            plan.drop()
        elif not asked.dropped:
            plan.take(answer.chunk, asked.tick, asked.seen, tick, self.blend)

    def _allowed(self, plan: _Plan, tick: int) -> tuple[Float[np.ndarray, " a"], float]:
        """What leaves, and when the observation was made that it was computed from."""
        action, now, before = plan.at(tick), time.monotonic(), self.envelope.counts
        plan.starved += action is None and not self.envelope.mode.stands
        age = np.inf if action is None else now - plan.seen
        wanted = np.zeros(len(self.policy.spec.actions), np.float32) if action is None else action
        allowed = self.envelope.limit(wanted, now, age)
        held = any(self.envelope.counts.get(why) != before.get(why) for why in HELD_BACK)
        plan.modes.append(str(Mode.HOLD if held else self.envelope.mode))
        plan.tell(plan.failure, *self.envelope.reasons)
        return allowed, self._seen if action is None or held or self.envelope.mode.stands else plan.seen

    def _told(self) -> Mapping[str, Any]:
        message = self.robot.observe()
        if not isinstance(message, Mapping):
            kind = type(message).__name__
            raise TypeError(f"observe() returned {kind}; expected a mapping of names to arrays")
        return {**message, "prompt": self.instruction} if self.instruction else message
