"""One connection of one robot: its own memory, the robot's safety envelope, and an answer to each of its messages."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from plait.control import refuse_infinite
from plait.policy import Policy
from plait.safety.envelope import Envelope
from plait.safety.limits import HELD_BACK
from plait.safety.modes import Mode
from plait.serve.batching import Answer, Batcher, Failed, Question
from plait.serve.client import HEARD, HOLD, STOPPED
from plait.serve.codec import Limits, Malformed, pack, unpack
from plait.serve.keys import RESET, Keys, agree, begins_anew, episode, executed, is_reset, observed, says_yes, taken
from plait.serve.metrics import Metrics, fault
from plait.serve.robots import Robot
from plait.spec import INSTRUCTION
from plait.types import Observation

if TYPE_CHECKING:
    from plait.serve.server import ServeConfig

ERROR = 1011  # the close code of a session that ends with a sentence
PONG_S = 1.0  # within which a client answers whose name another one wants


@dataclass
class Served:
    """What all sessions of a server share."""

    policy: Policy
    config: "ServeConfig"
    batcher: Batcher
    metrics: Metrics
    known: Mapping[str, Keys]
    metadata: bytes


@dataclass
class Arrived:
    """A message, or what is wrong with it; when it came, and whether a newer observation came before its turn."""

    message: dict[str, Any] | Exception
    at: float
    superseded: bool = False


@dataclass(eq=False)
class Session:
    """Answers each message of one connection in order.

    Attributes:
        probed: by ``probe``, where it runs.
        last: when the newest observation came.
        asking: since when the policy has answered nothing; None where it is not asked, or has answered.
        failure: what the policy has failed with instead of its last answer; empty where it has not.
    """

    served: Served
    connection: ServerConnection
    robot: Robot
    probed: asyncio.Task[None] | None = None
    last: float = field(default_factory=time.monotonic)
    asking: float | None = None
    failure: str = ""

    def __post_init__(self) -> None:
        served = self.served
        self.memory, self.begins = served.policy.start(1), True
        self.envelope, self.first = self.robot.envelope, True  # whether no message has come yet
        self.agreed = False  # the keys of this session
        self.told: tuple[Any, ...] = ("",)
        self.faults: set[tuple[str, str]] = set()  # of the last observation, as they are counted
        self.sequence, self.previous_ms = 0, 0.0
        self.left = 0  # the number of the last answer with a chunk that the envelope counts
        self._waiting: asyncio.Queue[Arrived | None] = asyncio.Queue()
        self._newest: Arrived | None = None  # observation that waits
        self._asked: asyncio.Future[Answer | None] | None = None  # what the policy will say
        self._gone = False  # the client
        self._sending: float | None = None  # since when it has not taken what it is sent
        self._allowance = Allowance(served.config.rate_limit)

    @property
    def safety(self) -> dict[str, Any]:
        """``{"mode", "reasons"}``."""
        return self.envelope.state if self.envelope else {"mode": "off", "reasons": []}

    @property
    def patience(self) -> float | None:
        """Seconds after its observation at which a chunk is over; None where nobody knows the rate."""
        horizon, rate = self.served.policy.horizon, self.served.policy.spec.rate
        if self.envelope:
            return self.envelope.patience(horizon)
        return horizon / rate if rate else None

    async def run(self) -> None:
        """Until the client leaves, or does what ends its session."""
        reader = asyncio.create_task(self._read())
        try:
            await self._send(self.served.metadata)
            while (arrived := await self._waiting.get()) is not None:
                self._newest = None if arrived is self._newest else self._newest
                answer = await self._answer(arrived)
                await self._deliver(pack(answer))
                if "actions" in answer:  # to an observation
                    self._measure(arrived)
        except (ConnectionClosed, ConnectionError):  # the client has gone, or the server stops
            pass
        except Exception as error:
            await self._refuse(error)
        finally:
            reader.cancel()

    def watch(self, now: float) -> None:
        """Once per control step: has nothing come or been taken for too long, or has the policy not answered?"""
        if self._sending is not None and now - self._sending > self.served.config.send_s:
            self.served.metrics.faults["slow_reader"] += 1
            self._sending = None
            self.connection.transport.abort()
        if self.envelope and self.asking is not None:
            self.envelope.unanswered(now, now - self.asking, self.served.policy.horizon, self.failure)
        elif self.envelope and not self.envelope.mode.stands:  # a pause is no reason to stop
            self.envelope.silent(now)
            self.served.metrics.faults["silent"] += self.envelope.mode.stands

    async def probe(self) -> None:
        """End a connection that is lost without notice: its client answers nothing."""
        try:
            async with asyncio.timeout(PONG_S):
                await (await self.connection.ping())
        except TimeoutError:
            self.connection.transport.abort()
        except ConnectionClosed:
            pass
        self.probed = None

    async def _read(self) -> None:
        """At once, whatever the policy does: what is read late would be taken for new."""
        try:
            async for message in self.connection:
                arrived = self._taken(message)
                if self.first and isinstance(arrived.message, dict):
                    self._begun(arrived.message, arrived.at)
                self.first = False
                self._supersede(arrived)
                self._waiting.put_nowait(arrived)
                await asyncio.sleep(0)  # one robot's flood keeps no other waiting
        except ConnectionClosed as closed:
            if closed.sent and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self.served.metrics.refusals["large"] += 1
        self._gone = True
        self._waiting.put_nowait(None)
        if self._asked and not self._asked.done():  # the robot may come back, whatever the policy does
            self._asked.set_exception(ConnectionError("the client has gone"))

    def _begun(self, first: dict[str, Any], at: float) -> None:
        """What a client says in its first message of what it was told before, maybe by a server that has ended. It may
        make its robot stand, never move.
        """
        stopped, hold = first.pop(STOPPED, None), first.pop(HOLD, None)
        if self.envelope is None:
            return
        if self.robot.keys is None:  # else the envelope knows better
            with suppress(TypeError, ValueError, OverflowError):  # no numbers
                self.envelope.told(np.array(hold, np.float64))
        if says_yes(stopped):
            self.envelope.stop(at, "stopped before it connected, says the client")

    def _supersede(self, newer: Arrived) -> None:
        """Of an observation that waits, when a newer one comes, only that it begins an episode is kept."""
        if isinstance(newer.message, Exception) or is_reset(newer.message):
            return
        if older := self._newest:
            assert isinstance(older.message, dict)
            if begins_anew(older.message):
                newer.message[RESET] = True
            older.message, older.superseded = {}, True
        self._newest = newer

    def _taken(self, message: str | bytes) -> Arrived:
        now = time.monotonic()
        try:
            self._allowance.take(now)
            if isinstance(message, str):
                raise Malformed("a text frame; observations are binary frames of msgpack")
            value = unpack(message, Limits(self.served.config.message_bytes))
            if not isinstance(value, dict):
                raise Malformed(f"{type(value).__name__}; an observation is a map")
            return Arrived(value, now)
        except Malformed as error:
            return Arrived(error, now)

    async def _answer(self, arrived: Arrived) -> dict[str, Any]:
        if isinstance(arrived.message, Exception):
            raise arrived.message
        self.sequence += 1
        message = arrived.message
        if arrived.superseded:  # what it asks for would come too late
            self.last = arrived.at
            self.served.metrics.faults["superseded"] += 1
            return self._told(arrived, np.zeros((0, len(self.served.policy.spec.actions)), np.float32), self.safety)
        if self.envelope and self.left and (steps := executed(message, self.left)) is not None:
            self.envelope.executed(steps)
        self.left = 0
        message.pop(HEARD, None)  # it is the protocol's, and no part of an observation
        if begins_anew(message):
            self._reset()
            if is_reset(message):
                return {"reset": True, "sequence": self.sequence, "safety": self.safety}
        return await self._act(message, arrived)

    def _reset(self) -> None:
        self.begins, self.asking, self.failure = True, None, ""
        if self.envelope:
            self.envelope.reset()

    async def _act(self, message: dict[str, Any], arrived: Arrived) -> dict[str, Any]:
        spec, served = self.served.policy.spec, self.served
        keys = self._agreed(message)
        self.last = arrived.at
        observation = observed(message, keys, spec)
        words, asks = observation.instruction[0], True
        if self.envelope:
            judged = self.envelope.judge(observation, arrived.at, taken(message, arrived.at, spec))
            observation, asks = judged.observation, judged.mode.asks
            faults = {(modality, fault(reason)) for modality, reason in self.envelope.faults.items()}
            served.metrics.input_faults.update(faults - self.faults)  # those that begin
            self.faults = faults
            if INSTRUCTION in self.envelope.faults:
                words = self.told[0]  # that it failed is no new instruction
        told = (words if served.config.reset_on_instruction else "", *episode(message))
        self.begins, self.told = self.begins or told != self.told, told
        return await self._reply(observation, arrived, asks)

    def _agreed(self, message: dict[str, Any]) -> Keys:
        """The keys of this observation. What is wrong later on is the envelope's to judge, and so is what is missing in
        the first one of a robot that comes back with its keys. Otherwise, raises ValueError where it does not fit.
        """
        keys, known, spec = self.robot.keys, self.served.known, self.served.policy.spec
        if self.envelope is None or not self.agreed:
            try:
                mine = {} if keys is None else {"": keys}
                keys = agree(message, spec, mine if self.agreed else {**mine, **known})
            except ValueError:
                if keys is None or self.envelope is None or any(_complete(message, one) for one in known.values()):
                    raise
                if not keys.used(message) and any(one.used(message) for one in known.values()):
                    raise  # another client
            self.robot.keys, self.agreed = keys, True
        assert keys is not None
        return keys

    async def _reply(self, observation: Observation, arrived: Arrived, asks: bool) -> dict[str, Any]:
        """Args: asks: whether the policy is asked; the envelope makes a hold of the zeros otherwise."""
        policy, infer_ms = self.served.policy, 0.0
        chunk = np.zeros((policy.horizon, len(policy.spec.actions)), np.float32)
        if asks:
            present = self.envelope.present if self.envelope else ()
            if answer := await self._predicted(observation, arrived.at):
                self.memory, self.begins, chunk, infer_ms = answer.memory, False, answer.chunk, answer.infer_ms
                if self.envelope:
                    self.envelope.notice(answer.features, present)
        now, safety = time.monotonic(), self.safety
        if self.envelope:
            chunk, safety = self._limited(self.envelope, chunk, now, now - arrived.at)
            self.left = self.sequence
        refuse_infinite(chunk, policy.spec)
        hold = self.envelope.still().tolist() if self.envelope else None
        return self._told(arrived, chunk, safety, infer_ms, hold)

    async def _predicted(self, observation: Observation, at: float) -> Answer | None:
        """What the policy says; None where it would come too late, or where it fails. Raises ConnectionError when the
        client leaves, and Failed where there is no envelope to hold.
        """
        served, patience = self.served, None
        if self._gone:
            raise ConnectionError("the client has gone")
        if self.envelope:
            patience = max(0.0, at + self.envelope.patience(served.policy.horizon) - time.monotonic())
        self.asking = at if self.asking is None else self.asking
        self._asked = served.batcher.ask(Question(observation, self.memory, self.begins), patience)
        try:
            answer, self.failure = await self._asked, ""
            served.metrics.faults["unanswered"] += answer is None
        except Failed as error:
            served.metrics.faults["policy_failed"] += 1
            if self.envelope is None:
                raise
            answer, self.failure = None, str(error)
        self.asking = None if answer else self.asking
        return answer

    def _told(
        self, arrived: Arrived, chunk: Any, safety: dict[str, Any], infer_ms: float = 0.0, hold: Any = None
    ) -> dict[str, Any]:
        """The answer to an observation."""
        age_ms, patience = 1e3 * (time.monotonic() - arrived.at), self.patience
        return {
            "actions": chunk.astype(np.float32, copy=False),
            "policy_timing": {"infer_ms": infer_ms},
            "server_timing": {"infer_ms": age_ms, "prev_total_ms": self.previous_ms},
            "safety": safety,
            "sequence": self.sequence,
            "superseded": arrived.superseded,
            "observation_age_ms": age_ms,
            "valid_until_ms": None if patience is None else 1e3 * patience,
            "hold": hold,
        }

    def _limited(self, envelope: Envelope, chunk: Any, now: float, age: float) -> tuple[Any, dict[str, Any]]:
        """What leaves instead of the chunk, and the safety state that the reply tells: a chunk held back is a hold."""
        before, answered = envelope.counts, self.asking is None
        chunk = envelope.limit(chunk, now, age if answered else math.inf, self.served.policy.config.execute)
        if (after := envelope.counts) == before:
            return chunk, self.safety
        changed = Counter(after) - Counter(before)
        self.served.metrics.limited.update(changed)
        why = [told.format(age=age) for name, told in HELD_BACK.items() if name in changed]
        if why and self.asking is not None:
            why = [self.failure or f"the policy has not answered for {now - self.asking:.1f} s"]
        return chunk, {"mode": str(Mode.HOLD), "reasons": why + self.safety["reasons"]} if why else self.safety

    def _measure(self, arrived: Arrived) -> None:
        self.previous_ms = 1e3 * (time.monotonic() - arrived.at)
        self.served.metrics.latency_ms.observe(self.previous_ms)
        self.served.metrics.misses += self.previous_ms > self.served.config.deadline_ms

    async def _deliver(self, answer: bytes) -> None:
        try:
            await self._send(answer)
        except ConnectionClosed:
            if self.envelope and self.left == self.sequence:  # nobody has heard of its chunk
                self.envelope.executed(0)
            raise

    async def _send(self, message: bytes | str) -> None:
        """Raises ConnectionClosed when the client has gone, or does not take it in time: ``watch`` ends it then."""
        self._sending = time.monotonic()
        try:
            await self.connection.send(message)
        finally:
            self._sending = None

    async def _refuse(self, error: Exception) -> None:
        """The sentence, then the end of this session; the others do not notice."""
        kind = "malformed" if isinstance(error, Malformed) else "refused" if isinstance(error, ValueError) else "failed"
        self.served.metrics.faults[kind] += 1
        self.served.metrics.refusals["rate"] += isinstance(error, TooMany)
        self.served.metrics.refusals["misfit"] += kind == "refused" and not self.agreed
        named = isinstance(error, (ValueError, Failed))
        try:
            await self._send(str(error) if named else f"{type(error).__name__}: {error}")
            await self.connection.close(ERROR, kind)
        except ConnectionClosed:
            pass


def _complete(message: Mapping[str, Any], keys: Keys) -> bool:
    return keys.images(message).keys() == keys.cameras.keys() and not (keys.state and keys.measured(message) is None)


class TooMany(Malformed):
    """More messages than the server takes."""


class Allowance:
    """At most ``rate`` messages a second on average, and a second's worth of them at once."""

    def __init__(self, rate: float) -> None:
        self.rate, self.left, self.since = rate, rate, time.monotonic()

    def take(self, now: float) -> None:
        """Raises TooMany when there are."""
        self.left = min(self.rate, self.left + self.rate * (now - self.since)) - 1
        self.since = now
        if self.left < 0:
            raise TooMany(f"more than {self.rate:g} messages a second; send one when the answer to the last has come")
