"""A robot's side of the socket. It needs numpy, msgpack and websockets: no torch, and no other part of plait.

from plait.serve.client import Client
with Client("127.0.0.1", 8000) as client:
    reply = client.infer({"observation/image": image, "observation/state": state, "prompt": "pick up the red ball"})
    for action in reply["actions"][: client.metadata["execute"]]:
        ...
"""

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, TypeGuard
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from plait.serve.codec import Limits, Malformed, pack, unpack

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between attempts to connect, doubled each time
HEARD = "heard"  # key of a message: the number of the last answer that the robot got
EXECUTED = "executed"  # key of a message: how many steps of that answer the robot has executed
STOPPED = "stopped"  # key of a session's first message: the robot was stopped, and nobody has reset it since
HOLD = "hold"  # key of an answer: the action without motion; and of a session's first message: what was told last
KEPT = "kept_in_hold"  # key of the metadata: the entries of an action that a hold keeps as they were told
CONNECTED, BROKEN = 409, 500  # HTTP status: a robot of this name is connected; from here on, the server is at fault
EXAMPLE = "ws://robot.lab:8000/?robot=left"
LIMITS = Limits()
LARGEST = float(np.finfo(np.float32).max)


class Refused(RuntimeError):
    """The server answered with a sentence instead of actions, and closed this session."""


class Late(TimeoutError):
    """No answer within ``timeout``: whatever comes later is not executed."""


class Client:
    """One session with a server: connects, asks, and never waits longer than ``timeout``.

    A connection that is lost is made anew by a later call, as a new session. An observation is never sent twice: the
    answer would be to a moment that is over. For the same reason the connection is given up when an answer is late and
    the server does not number its answers, as openpi's does not: the late one could not be told from the next.

    Args:
        host: name or address, or a whole ``ws://`` or ``wss://`` address.
        port: where ``host`` does not tell it; None: the usual one of ``ws://`` and ``wss://``.
        api_key: what the server was started with, if it was.
        timeout: seconds that a call may take: connecting anew, sending and the answer together.
        late: what ``infer`` does when there is no answer, or none that can be executed: ``"raise"``, or ``"hold"``: it
            returns the action without motion after the steps of the answer before that were ``executed``, as the
            observation says (as many as the server expects, where it does not). Where there is none, it raises all the
            same.
        wait: seconds within which the first connection must be made.
        ca: file with the certificate of a ``wss://`` server that the machine does not know.
        robot: a name for this robot, its own: a stop, and what its gripper was told, then outlive the connection.
            In the place of the name in ``host``, where that has one.

    Raises:
        ConnectionError: no connection within ``wait``, or all that time another robot of that name had one, or the
            server had no room for another session.
        Refused: the API key is not the server's, or no robot can have this name.
        Malformed: what it says of itself is no map: it is no server of policies.
        ValueError: ``host``, ``late`` or ``ca`` is nothing that can be used.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = 8000,
        api_key: str | None = None,
        *,
        timeout: float = 1.0,
        late: str = "raise",
        wait: float = 20.0,  # longer than a server needs to notice that the robot's last connection is lost
        ca: str | None = None,
        robot: str = "",
    ) -> None:
        if late not in ("raise", "hold"):
            raise ValueError(f"late: {late!r}; say 'raise' or 'hold'")
        self.address, self._path = _located(host, port, robot)
        self.timeout, self.late = timeout, late
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else {}
        self._tls = _tls(ca) if self.address.startswith("wss://") else None
        self._connection: ClientConnection | None = None
        self._exit = ExitStack()  # closes the connection
        self._sent, self._numbered = 0, False  # messages of this session; whether its answers say to which they are
        self._heard = 0  # number of the last answer of this session
        self._hold: list[float] | None = None  # after the steps that the server expects
        self._holds: list[list[float] | None] = []  # after 0, 1, ... steps
        self._stopped = False  # as the server said last
        self._told: list[float] | None = None  # last, though an episode has begun since: for the gripper
        self._pause, self._next_try = FIRST_PAUSE, 0.0
        self.metadata: dict[str, Any] = {}
        self._first_connection(time.monotonic() + wait)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """What to do now.

        Args:
            observation: pictures, state and instruction under any of the names in ``metadata["keys"]``.

        Returns:
            ``actions``, numbers ``[horizon, a]``, all finite (of a plait server float32), and what ``docs/serving.md``
            lists beside it. When ``late="hold"`` and there is no answer that can be executed: one action without
            motion, ``"late": True``, and why under ``safety``.

        Raises:
            Refused: the server refused this observation, or failed.
            Late: no answer within ``timeout`` and while its actions last (or no connection), and ``late="raise"`` or
                nothing to hold: before the first answer, after ``reset`` until the next one, or with a server that has
                no envelope.
            Malformed: the answer has no actions that are finite numbers, and ``late="raise"`` or nothing to hold.
            ValueError, TypeError: the observation holds what cannot be sent.
        """
        held = self._still(observation.get(EXECUTED))
        self._told = held or self._told
        try:
            reply = self._ask(dict(observation), _check_actions)
        except (Late, Malformed) as error:
            if self.late == "raise" or held is None:
                raise
            self._hold, self._holds = held, []
            safety = {"mode": "hold", "reasons": [str(error)]}
            return {"actions": np.array([held], np.float32), "late": True, "safety": safety}
        self._hold, self._holds = reply.get(HOLD), []
        if self._hold is not None and isinstance(kept := self.metadata.get(KEPT), list):
            actions = reply["actions"]
            keeps = [entry in kept for entry in range(actions.shape[1])]
            self._holds = [held, *np.where(keeps, actions, 0.0).tolist()]
        return reply

    def reset(self) -> dict[str, Any]:
        """A new episode: the server forgets what it remembers of this robot, and a stop ends.

        Raises:
            Late: no answer within ``timeout``, whatever ``late`` says: the server may not have heard of it. Call again.
            Refused, Malformed: as ``infer``.
        """
        self._told = self._hold or self._told
        self._hold, self._holds = None, []  # where to hold absolute actions is another place then
        return self._ask({"reset": True})

    def close(self) -> None:
        self._connection = None
        self._exit.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _still(self, steps: Any) -> list[float] | None:
        """The action without motion after so many steps of the newest answer; None where it is not known."""
        if not self._holds or not is_whole(steps):
            return self._hold
        return self._holds[min(max(0, int(steps)), len(self._holds) - 1)]

    def _first_connection(self, until: float) -> None:
        while True:
            try:
                self._connect(until)
                return
            except Late as error:
                time.sleep(max(0.0, min(self._next_try, until) - time.monotonic()))
                if time.monotonic() >= until:
                    raise ConnectionError(str(error)) from error

    def _ask(self, message: dict[str, Any], check: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Send, and wait for the answer to this message; those to earlier ones, which came too late, are dropped. The
        server is told of which the robot has heard.
        """
        begin = time.monotonic()
        until = begin + self.timeout
        connection = self._connection or self._connect(until)
        packed = pack({**message, **self._said()})
        try:
            left = _left(until)
            with suppress(OSError):  # where it is closed, ``send`` says why
                connection.socket.settimeout(left)  # of ``send``: a server that reads slowly holds up no robot
            self._sent += 1
            connection.send(packed)
            while _number(reply := self._receive(connection, until), self._sent) < self._sent:
                pass
            self._numbered = "sequence" in reply
            if check:
                check(reply)
        except TimeoutError:
            if not self._numbered:
                self._lost()
            raise Late(f"no answer from {self.address} within {self.timeout:g} s") from None
        except (WebSocketException, OSError) as error:
            self._lost()
            if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code == CloseCode.MESSAGE_TOO_BIG:
                rule = "send smaller pictures, or start the server with a larger --message-bytes"
                raise Refused(
                    f"an observation of {len(packed):,} bytes is too large for {self.address}; {rule}"
                ) from error
            raise Late(f"the connection to {self.address} is lost ({_reason(error)})") from error
        except Malformed as error:
            self._lost()
            raise Malformed(f"the answer of {self.address} cannot be executed ({error})") from error
        except BaseException:  # such as Ctrl-C: what was sent, and which answer comes next, is not known
            if self._connection:
                self._lost()
            raise
        _refuse_over(reply, time.monotonic() - begin)
        self._heard = self._sent
        return reply

    def _said(self) -> dict[str, Any]:
        """What a message says beside what the robot sees: which answer it has heard, and, in the first one of a
        session, what a server that was started anew does not know. Nothing where answers have no numbers.
        """
        if not self._numbered:
            return {}
        if self._sent:
            return {HEARD: self._heard}
        told = {} if self._told is None else {HOLD: self._told}
        return {HEARD: self._heard, **({STOPPED: True} if self._stopped else {}), **told}

    def _receive(self, connection: ClientConnection, until: float) -> dict[str, Any]:
        message = connection.recv(timeout=_left(until))
        if isinstance(message, str):
            self._lost()
            raise Refused(message)
        if not isinstance(value := unpack(message, LIMITS), dict):
            raise Malformed(f"{type(value).__name__}; expected a map")
        if mode := _mode(value):
            self._stopped = mode == STOPPED
        return value

    def _connect(self, until: float) -> ClientConnection:
        now = time.monotonic()
        if now < self._next_try:
            raise Late(f"no connection to {self.address}; the next attempt is in {self._next_try - now:.2f} s")
        try:
            self._connection = connection = self._exit.enter_context(
                connect(
                    self.address + self._path,
                    compression=None,
                    max_size=LIMITS.bytes,
                    additional_headers=self._headers,
                    open_timeout=max(0.01, until - now),
                    close_timeout=min(0.2, self.timeout),
                    ssl=self._tls,
                    proxy=None,
                )
            )
            self.metadata, self._sent, self._heard = self._receive(connection, until), 0, 0
        except InvalidStatus as error:
            told = error.response.body.decode(errors="replace").strip() or str(error)
            status = error.response.status_code
            if status == CONNECTED or status >= BROKEN:  # the robot's last connection may not be over for the server
                self._lost()
                raise Late(f"no connection to {self.address} ({told})") from error
            raise Refused(told) from error
        except (OSError, WebSocketException) as error:
            self._lost()
            raise Late(f"no connection to {self.address} ({_reason(error)})") from error
        except Malformed as error:
            self._lost()
            raise Malformed(f"{self.address} is no server of policies ({error}); check host and port") from error
        except BaseException:  # such as Ctrl-C, before it has said what it is
            if self._connection:
                self._lost()
            raise
        self._pause = FIRST_PAUSE
        self._numbered = str(self.metadata.get("server")).startswith("plait")  # else the first answer tells
        return connection

    def _lost(self) -> None:
        """Give up the connection, without a handshake: it takes time. The next attempt is a little later each time."""
        if self._connection:
            with suppress(OSError):
                self._connection.socket.shutdown(socket.SHUT_RDWR)
        self.close()
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def _located(host: str, port: int | None, robot: str) -> tuple[str, str]:
    """The server's address, and the path there. Raises ValueError."""
    try:
        parts = urlsplit(host if "://" in host else f"ws://{host}")
        user, at, place = parts.netloc.rpartition("@")
        if place.count(":") > 1 and "[" not in place:
            place = f"[{place}]"  # of IPv6
        given, name = urlsplit(f"//{place}").port, urlsplit(f"//{place}").hostname
    except ValueError as error:
        raise ValueError(f"host: {host!r} is no address ({error}); say such as 'robot.lab' or {EXAMPLE!r}") from None
    if parts.scheme not in ("ws", "wss") or not name:
        raise ValueError(f"host: {host!r}; say a name, an address, or such as {EXAMPLE!r}")
    address = f"{parts.scheme}://{user}{at}{place}"
    query = parts.query
    if robot:
        query = urlencode({**dict(parse_qsl(query, keep_blank_values=True)), "robot": robot})
    path = parts.path + (f"?{query}" if query else "")
    return address if port is None or given is not None else f"{address}:{port}", f"/{path.removeprefix('/')}"


def _tls(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # those of TLS are, too
        raise ValueError(f"ca: {ca} holds no certificate that can be read ({error}); give a PEM file") from error


def is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _left(until: float) -> float:
    """Seconds. Raises TimeoutError where there are none."""
    if (left := until - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def _number(reply: dict[str, Any], last: int) -> int:
    """Of the message that this answers; ``last`` where the server does not say."""
    if type(number := reply.get("sequence", last)) is not int:
        raise Malformed(f"sequence: {number!r}; expected a whole number")
    return number


def _check_actions(reply: dict[str, Any]) -> None:
    """Raises Malformed where a robot cannot execute ``actions``, or ``hold`` in their place."""
    actions, hold = reply.get("actions"), reply.get(HOLD)
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu" or actions.ndim != 2 or not actions.size:
        found = f"{actions.dtype} {list(actions.shape)}" if isinstance(actions, np.ndarray) else type(actions).__name__
        raise Malformed(f"actions: {found}; expected numbers [horizon, a]")
    if not np.isfinite(actions).all():
        raise Malformed("actions: NaN or infinite; expected finite numbers")
    if hold is None:
        return
    numbers = isinstance(hold, list) and all(isinstance(n, (int, float)) and abs(n) <= LARGEST for n in hold)
    if not numbers or len(hold) != actions.shape[1]:
        raise Malformed(f"hold: {hold!r}; expected {actions.shape[1]} finite numbers")


def _mode(reply: dict[str, Any]) -> Any:
    """Of the robot, as its server says; None where it does not."""
    return safety.get("mode") if isinstance(safety := reply.get("safety"), dict) else None


def _refuse_over(reply: dict[str, Any], age: float) -> None:
    """Raises Late where a server with an envelope would have held the chunk back, had it known of the way here."""
    valid_ms, moves = reply.get("valid_until_ms"), _mode(reply) in ("nominal", "degraded")  # who stands has no plan
    if moves and isinstance(valid_ms, (int, float)) and 1e3 * age > valid_ms:
        raise Late(f"the answer came {age:.2f} s after its observation, for which it is valid {valid_ms / 1e3:.2f} s")


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__
