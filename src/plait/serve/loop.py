"""A policy and a robot in one process, at a fixed rate: control never waits for the policy.

loop = ControlLoop(policy, envs.make("tabletop"), instruction="pick up the red ball")
print(loop.run(ticks=300))
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from jaxtyping import Float

from plait.config import refuse_small
from plait.policy import Policy
from plait.safety.calibration import Calibration
from plait.safety.envelope import Envelope, SafetyConfig
from plait.serve.batching import Answer, Engine, Question, responsive
from plait.serve.keys import Keys, accepted, agree, observed


@runtime_checkable
class Robot(Protocol):
    """What a robot offers. It may also have ``reset()``, which is called before each run, and ``ended``, which is True
    when there is nothing left to do.

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
class Report:
    """What a run was like.

    Attributes:
        ticks: actions that left.
        rate: the one that was asked for, per second.
        misses: actions that left more than one step too late.
        starved: actions for which no chunk was ready, so that the robot held.
        late_ms, infer_ms: percentiles (p50, p99, p99.9, max) of how much too late an action left, and of how long a
            prediction took.
        delay: the most steps that passed while a prediction was made.
        stalls: how often the robot's ``observe`` or ``act`` took so long that the watchdog commanded a hold.
        modes: safety mode -> ticks in it.
    """

    ticks: int
    rate: float
    misses: int
    starved: int
    late_ms: dict[str, float]
    infer_ms: dict[str, float]
    delay: int
    stalls: int
    modes: dict[str, int]


@dataclass
class _Plan:
    """Chunks on the way: what is to be done at which step, and from which observation it came."""

    chunk: Float[np.ndarray, "horizon a"] | None = None
    first: int = 0  # the step that the chunk begins with
    seen: float = -np.inf  # when its observation was made
    late: list[float] = field(default_factory=list)
    infer: list[float] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    starved: int = 0
    delay: int = 0

    def at(self, tick: int) -> Float[np.ndarray, " a"] | None:
        place = tick - self.first
        return self.chunk[place] if self.chunk is not None and 0 <= place < len(self.chunk) else None

    def take(self, chunk: Float[np.ndarray, "horizon a"], first: int, seen: float, now: int, blend: int) -> None:
        """A new chunk, of which the steps before ``now`` are over; its next ``blend`` ones begin as the old one."""
        chunk = chunk.copy()
        for i in range(blend):
            if now + i - first < len(chunk) and (old := self.at(now + i)) is not None:
                weight = (i + 1) / (blend + 1)
                chunk[now + i - first] = weight * chunk[now + i - first] + (1 - weight) * old
        self.delay = max(self.delay, now - first)
        self.chunk, self.first, self.seen = chunk, first, seen


class ControlLoop:
    """Observes, acts, and meanwhile predicts the next chunk in another thread.

    A prediction begins every ``execute`` steps. It is about the moment of its observation: when it is there, the steps
    that have passed meanwhile are left out, and the seam is blended. Until then the robot goes on with the chunk
    before; where that ends first, it holds.

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

    Raises:
        ValueError: a rate that is not known or not the envelope's, or a number that is too small.
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
    ) -> None:
        given = rate or policy.spec.rate
        if given is None:
            raise ValueError("rate: the policy does not know it; give the control steps per second")
        refuse_small(rate=(given, 1e-3), execute=(execute, 1), blend=(blend, 0))
        self.execute = policy.config.execute if execute is None else execute
        if self.execute > policy.horizon or (policy.memory is not None and self.execute != policy.config.execute):
            rule = (
                f"at most {policy.horizon}" if policy.memory is None else f"{policy.config.execute}, as it has learned"
            )
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
        self.engine = Engine(policy, batch=1)
        self.engine.warm_up()
        self._known = accepted(policy.spec)

    def run(self, ticks: int) -> Report:
        """An episode of at most so many steps, at the fixed rate; it ends early when the robot has ``ended``.

        Memory and envelope begin anew, so that a stop ends too. Whatever ends the run, an error or Ctrl-C as well, the
        last thing that the robot is told is to hold, unless it has ``ended``. It is told so too when ``observe`` or
        ``act`` does not return for as many steps as the envelope's ``silent_after``.

        Raises:
            ValueError: the first observation does not fit the policy; the sentence says what differs.
        """
        refuse_small(ticks=(ticks, 1))
        if reset := getattr(self.robot, "reset", None):
            reset()
        self.envelope.reset()
        plan, keys = _Plan(), agree(self.robot.observe(), self.policy.spec, self._known)
        watchdog = Watchdog((self.envelope.config.silent_after + 1) / self.rate, self._stalled)
        with ThreadPoolExecutor(1, "plait-inference") as thread, responsive(), self._held_at_last(), watchdog:
            self._run(ticks, plan, keys, thread, watchdog)
        return Report(
            ticks=len(plan.late),
            rate=self.rate,
            misses=sum(late > 1e3 / self.rate for late in plan.late),
            starved=plan.starved,
            late_ms=percentiles(plan.late),
            infer_ms=percentiles(plan.infer),
            delay=plan.delay,
            stalls=watchdog.stalls,
            modes=dict(Counter(plan.modes)),
        )

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
            self.robot.act(self._still)

    def _hold(self) -> None:
        if not getattr(self.robot, "ended", False):
            self.robot.act(self.envelope.still())

    def _run(self, ticks: int, plan: _Plan, keys: Keys, thread: ThreadPoolExecutor, watchdog: "Watchdog") -> None:
        asked: tuple[Future[list[Answer | Exception]], int, float, bool] | None = None
        memory, due = self.policy.start(1), time.monotonic()
        for tick in range(ticks):
            seen = observed(self._told(), keys, self.policy.spec)
            judged = self.envelope.judge(seen, now := time.monotonic())
            if tick % self.execute == 0 and asked is None and judged.mode.asks:
                question = Question(judged.observation, memory, tick == 0)
                asked = thread.submit(self.engine, [question]), tick, now, judged.mode.stands
            if asked and (tick == 0 or asked[0].done()):  # at first there is nothing to do meanwhile
                answer = asked[0].result()[0]
                if isinstance(answer, Exception):
                    raise answer
                memory = answer.memory
                self.envelope.notice(answer.features)
                plan.infer.append(answer.infer_ms)
                if asked[3]:  # it stood, perhaps blind: what it would have done from there is not done later either
                    plan.chunk = None
                else:
                    plan.take(answer.chunk, asked[1], asked[2], tick, self.blend)
                asked, due = None, time.monotonic() if tick == 0 else due
            action = self._allowed(plan, tick)
            plan.late.append(1e3 * (time.monotonic() - due))
            plan.modes.append(str(self.envelope.mode))
            self._still = self.envelope.still()
            self.robot.act(action)
            watchdog.feed()
            if getattr(self.robot, "ended", False):
                return
            due = max(due + 1 / self.rate, time.monotonic() - 1 / self.rate)  # what is late is not made up in a rush
            time.sleep(max(0.0, due - time.monotonic()))

    def _allowed(self, plan: _Plan, tick: int) -> Float[np.ndarray, " a"]:
        action, now = plan.at(tick), time.monotonic()
        plan.starved += action is None
        age = np.inf if action is None else now - plan.seen
        wanted = np.zeros(len(self.policy.spec.actions), np.float32) if action is None else action
        return self.envelope.limit(wanted, now, age)

    def _told(self) -> Mapping[str, Any]:
        message = self.robot.observe()
        return {**message, "prompt": self.instruction} if self.instruction else message


class Watchdog:
    """Calls ``stalled``, from a thread of its own, when nothing has fed it for so many seconds; once until it is fed
    again. It watches from the first ``feed`` on, while its context is entered.

    Attributes:
        stalls: how often that was.
    """

    def __init__(self, seconds: float, stalled: Callable[[], None]) -> None:
        self.seconds, self.stalled, self.stalls = seconds, stalled, 0
        self._fed: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="plait-watchdog", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._end.set()

    def feed(self) -> None:
        self._fed = time.monotonic()

    def _watch(self) -> None:
        while not self._end.wait(self.seconds / 4):
            fed = self._fed
            if fed is not None and time.monotonic() - fed > self.seconds:
                self._fed, self.stalls = None, self.stalls + 1
                with suppress(Exception):  # it goes on watching
                    self.stalled()


def percentiles(values: list[float]) -> dict[str, float]:
    """``{"p50", "p99", "p99.9", "max"}``; empty for no values."""
    if not values:
        return {}
    shares = {"p50": 50, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(values, share)), 3) for name, share in shares.items()}
