"""A websocket server that speaks openpi's protocol: existing robot clients talk to it unchanged."""

import asyncio
import hmac
import logging
import signal
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import plait
from plait.config import refuse_small
from plait.nn.device import Precision
from plait.policy import Policy
from plait.safety.envelope import Envelope, SafetyConfig
from plait.serve.batching import Batcher, Engine, responsive
from plait.serve.client import CONNECTED, KEPT
from plait.serve.codec import pack
from plait.serve.keys import EPISODES, INSTRUCTIONS, RESET, accepted
from plait.serve.metrics import Metrics
from plait.serve.robots import Robots, named
from plait.serve.session import Served, Session

HEALTH, METRICS = "/healthz", "/metrics"
HUNG_S = 10.0  # a policy that takes longer is no longer healthy
FAILURES = 3  # in a row, after which it is no longer healthy either
SLOWEST_RATE = 1.0  # control steps a second that are assumed where the policy does not say


@dataclass(frozen=True)
class ServeConfig:
    """How a policy is served.

    Attributes:
        host: address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 everybody who can reach it.
        port: 0 takes one that is free.
        api_key: clients must send ``Authorization: Api-Key ...``; None: anybody may connect.
        certificate, private_key: files (PEM) for TLS; both or none.
        keys: key of an observation -> camera, beside the tables of ``plait.serve.keys``.
        reset_on_instruction: a new instruction begins a new episode for the policy's memory.
        compile: the policy is compiled with ``torch.compile`` before the port opens.
        precision: number format in which the policy multiplies; evaluations have float32.
        batch: robots that are computed together at most.
        budget_ms: how long an observation waits for those of other robots.
        deadline_ms: an answer that takes longer is a miss; one control step when 0.
        silence_ms: a client that sends nothing for so long is silent, and its envelope holds; this is the envelope's
            ``silent_after``, whatever that was. 0: the length of a chunk, for which a robot may do without an answer,
            and the usual ``silent_after`` more.
        sessions: connections at once; further ones are refused.
        message_bytes: the largest message.
        rate_limit: messages a second of one session.
        send_s: a client that does not take an answer for so long is dropped.
        ping_s: how often a connection is probed; one that does not answer for twice as long is dropped.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    reset_on_instruction: bool = True
    compile: bool = False
    precision: Precision = "float32"
    batch: int = 16
    budget_ms: float = 2.0
    deadline_ms: float = 0.0
    silence_ms: float = 0.0
    sessions: int = 256
    message_bytes: int = 16 * 2**20
    rate_limit: float = 1000.0
    send_s: float = 5.0
    ping_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port: {self.port} is not between 0 and 65535")
        refuse_small(batch=(self.batch, 1), budget_ms=(self.budget_ms, 0), deadline_ms=(self.deadline_ms, 0))
        refuse_small(
            silence_ms=(self.silence_ms, 0), sessions=(self.sessions, 1), message_bytes=(self.message_bytes, 1024)
        )
        refuse_small(rate_limit=(self.rate_limit, 1), send_s=(self.send_s, 0.01), ping_s=(self.ping_s, 0.01))
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key: TLS needs both")
        for camera, count in Counter(self.keys.values()).items():
            if count > 1:
                twice = " and ".join(repr(key) for key, of in self.keys.items() if of == camera)
                raise ValueError(f"keys: {twice} name the same camera, {camera!r}; give one key for each")
        refuse_key("api_key", self.api_key)


def refuse_key(name: str, key: str | None) -> None:
    """Raises ValueError, which begins with ``name``, for a key that no header carries."""
    if key is not None and (not key or key != key.strip()):
        wrong = "has blanks at its ends, which HTTP takes away" if key.strip() else "is empty"
        raise ValueError(f"{name}: the key {wrong}; leave it out, or say one that begins and ends with a character")


class Server:
    """Serves one policy while its context is entered.

    async with Server(policy, ServeConfig(port=0)) as server:
        print(server.port)
        await server.until_signal()

    Args:
        policy: on its device. It belongs to the server from here on.
        envelope: makes the safety envelope of a robot; None serves without.
        described: what the metadata says beside the policy, such as the checkpoint's fingerprint.

    Raises:
        ValueError: ``config.keys`` names a camera that the policy lacks, the envelope does not fit the policy, or the
            files for TLS hold something else; or, when the context is entered, that host and port cannot be had.
        OSError: a file for TLS is missing, or may not be read.
        Hung: when the context is left, that the policy does not return.
    """

    def __init__(
        self,
        policy: Policy,
        config: ServeConfig = ServeConfig(),
        envelope: Callable[[], Envelope] | None = None,
        described: Mapping[str, Any] | None = None,
    ) -> None:
        self.policy, self.metrics = policy, Metrics(policy.spec.modalities)
        if unknown := set(config.keys.values()) - policy.spec.cameras.keys():
            raise ValueError(f"keys: no camera {sorted(unknown)[0]!r}; the policy has {sorted(policy.spec.cameras)}")
        first = envelope() if envelope else None  # what does not fit the embodiment is told now
        if first and (execute := policy.config.execute) > first.config.stale_after:
            raise ValueError(
                f"stale_after: no chunk is executed {first.config.stale_after} steps after its observation, but this "
                f"policy executes {execute} before it is asked again; give {execute} or more (serve: --safety FILE)"
            )
        known = accepted(policy.spec, config.keys)
        self._sessions: set[Session] = set()
        step_ms = 1e3 / (policy.spec.rate or SLOWEST_RATE)
        config = replace(
            config,
            deadline_ms=config.deadline_ms or step_ms,
            silence_ms=config.silence_ms or (policy.horizon + SafetyConfig.silent_after) * step_ms,
        )
        self.config = config
        self._batcher = Batcher(
            Engine(policy, config.batch, config.compile, config.precision),
            config.budget_ms / 1e3,
            self._regular,
            self.metrics.batch.observe,
        )
        self._robots = Robots(envelope and (lambda: _silent_after(envelope(), config.silence_ms)))
        kept = {KEPT: first.kept} if first else {}
        self.metadata = {**metadata(policy, known), **kept, **(described or {})}
        self._served = Served(policy, config, self._batcher, self.metrics, known, pack(self.metadata))
        self._tls, self._exit = _tls(config), AsyncExitStack()
        self._listener: Listener | None = None
        self._work: list[asyncio.Future[None]] = []

    @property
    def port(self) -> int:
        assert self._listener is not None, "the server is not running"
        return next(iter(self._listener.sockets)).getsockname()[1]

    async def __aenter__(self) -> "Server":
        async with AsyncExitStack() as entered:
            entered.enter_context(responsive())
            await self._batcher.warm_up()
            try:
                self._listener = await entered.enter_async_context(self._listen())
            except OSError as error:
                where = f"host {self.config.host!r}, port {self.config.port}"
                raise ValueError(f"{where}: {error.strerror or error}; take another one (port 0: a free one)") from None
            watch = asyncio.create_task(self._watch())
            self._work = [self._batcher.start(), watch]
            entered.callback(watch.cancel)
            entered.push_async_callback(self._batcher.close)
            entered.callback(self._listener.close)  # what comes last is done first: nobody asks any more
            self._exit = entered.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exit.aclose()

    async def until_signal(self) -> None:
        """Until SIGINT or SIGTERM; raises what made the server unable to go on."""
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *self._work], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _listen(self) -> Listener:
        config = self.config
        quiet = logging.getLogger("plait.serve.connections")
        quiet.setLevel(logging.CRITICAL)  # whoever sends garbage must not fill the log
        return serve(
            self._handle,
            config.host,
            config.port,
            process_request=self._before,
            compression=None,
            max_size=config.message_bytes,
            max_queue=1,
            open_timeout=config.send_s,
            close_timeout=1.0,
            ping_interval=config.ping_s,
            ping_timeout=2 * config.ping_s,
            ssl=self._tls,
            logger=quiet,
        )

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        name, address = named(connection.request.path), "{}:{}".format(*connection.remote_address[:2])
        with self._robots.connected(name, address) as robot:
            session = Session(self._served, connection, robot)
            self._sessions.add(session)
            self.metrics.sessions, self.metrics.opened = len(self._sessions), self.metrics.opened + 1
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
                self.metrics.sessions = len(self._sessions)

    def _before(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is answered without a session."""
        if request.path == HEALTH:
            if (waited := self._batcher.waited) > HUNG_S:
                return connection.respond(503, f"the policy has not answered for {waited:.1f} s\n")
            if (failures := self._batcher.failures) >= FAILURES:
                return connection.respond(503, f"{self._batcher.failure}, {failures} times in a row\n")
            return connection.respond(200, "OK\n")
        if not self._authorised(", ".join(request.headers.get_all("Authorization"))):
            self.metrics.refusals["key"] += 1
            return connection.respond(401, "the API key is missing or wrong\n")
        if request.path == METRICS:
            return connection.respond(200, self.metrics.text())
        if refusal := self._robots.refusal(named(request.path)):
            status, sentence = refusal
            self.metrics.refusals["connected" if status == CONNECTED else "name"] += 1
            if status == CONNECTED:
                self._probe(named(request.path))
            return connection.respond(status, f"{sentence}\n")
        if len(self._sessions) >= self.config.sessions:
            self.metrics.refusals["full"] += 1
            return connection.respond(503, f"{self.config.sessions} sessions are open, which is all; try again later\n")
        return None

    def _probe(self, name: str) -> None:
        """Is the connection of the robot of that name lost? Its client may be back before the next regular ping."""
        for session in self._sessions:
            if session.robot.name == name and not session.probed:
                session.probed = asyncio.create_task(session.probe())

    def _authorised(self, given: str) -> bool:
        wanted = self.config.api_key
        return wanted is None or hmac.compare_digest(
            given.encode(errors="surrogateescape"), f"Api-Key {wanted}".encode()
        )

    def _regular(self) -> int:
        """Sessions that asked within the last second."""
        now = time.monotonic()
        return sum(now - session.last < 1.0 for session in self._sessions)

    async def _watch(self) -> None:
        """Once per control step: whether each session is well, and how long they spend in which mode."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(1 / (self.policy.spec.rate or SLOWEST_RATE))
            now = time.monotonic()
            for session in self._sessions:
                session.watch(now)
                self.metrics.in_mode(session.safety["mode"], now - before)
            before = now


def metadata(policy: Policy, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the server says first, as maps, lists, text and numbers."""
    spec, config = policy.spec, policy.config
    return {
        "server": f"plait {plait.__version__}",
        "spec": {name: value for name, value in asdict(spec).items() if value is not None},
        "action_horizon": config.action_horizon,
        "execute": config.execute,
        "rate": spec.rate,
        "memory": policy.memory is not None,
        "keys": {
            name: {"cameras": dict(keys.cameras), "state": list(keys.state), "instruction": list(INSTRUCTIONS)}
            for name, keys in known.items()
        },
        "reset": {"message": RESET, "on_change": list(EPISODES)},
    }


def _silent_after(envelope: Envelope, silence_ms: float) -> Envelope:
    ticks = max(1, round(silence_ms * envelope.rate / 1e3))
    envelope.config = replace(envelope.config, silent_after=ticks)
    return envelope


def _tls(config: ServeConfig) -> ssl.SSLContext | None:
    if config.certificate is None or config.private_key is None:
        return None
    for file in (config.certificate, config.private_key):
        if not Path(file).is_file():
            raise FileNotFoundError(2, "no such certificate or key", file)
        with open(file, "rb"):  # TLS does not say which file may not be read
            pass
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.certificate, config.private_key, password=lambda: "")  # nobody is asked for it
    except ssl.SSLError as error:
        rule = "give the certificate and its private key, both PEM, the key without a password"
        files = f"certificate {config.certificate}, private_key {config.private_key}"
        raise ValueError(f"{files}: they are no pair that TLS can use; {rule}") from error
    return context
