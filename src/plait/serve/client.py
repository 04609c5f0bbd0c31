"""A robot's side of the socket. It needs numpy, msgpack and websockets: no torch, and no other part of plait.

from plait.serve.client import Client
with Client("127.0.0.1", 8000) as client:
    reply = client.infer({"observation/image": image, "observation/state": state, "prompt": "pick up the red ball"})
    for action in reply["actions"][: client.metadata["execute"]]:
        ...
"""

import socket
import ssl
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import numpy as np
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from plait.serve.codec import Limits, pack, unpack

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between attempts to connect, doubled each time
CONNECTED = 409  # HTTP status: a robot of this name is connected
LIMITS = Limits()


class Refused(RuntimeError):
    """The server answered with a sentence instead of actions, and closed this session."""


class Late(TimeoutError):
    """No answer within ``timeout``: whatever comes later is not executed."""


class Client:
    """One session with a server: connects, asks, and never waits longer than ``timeout``.

    A connection that is lost is made anew by a later call, as a new session. An observation is never sent twice: the
    answer would be to a moment that is over.

    Args:
        host: name or address, or a whole ``ws://`` or ``wss://`` address.
        port: None where ``host`` tells it.
        api_key: what the server was started with, if it was.
        timeout: seconds that an answer may take.
        late: what ``infer`` does when there is none: ``"raise"`` or ``"hold"`` (it returns an action without motion,
            see ``infer``).
        wait: seconds within which the first connection must be made.
        ca: file with the certificate of a ``wss://`` server that the machine does not know.
        robot: a name for this robot, its own: a stop, and what its gripper was told, then outlive the connection.

    Raises:
        ConnectionError: no connection within ``wait``, or all that time another robot of that name had one.
        Refused: the API key is not the server's, or it has no room for another session.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = 8000,
        api_key: str | None = None,
        *,
        timeout: float = 1.0,
        late: str = "raise",
        wait: float = 10.0,
        ca: str | None = None,
        robot: str = "",
    ) -> None:
        if late not in ("raise", "hold"):
            raise ValueError(f"late: {late!r}; say 'raise' or 'hold'")
        address = host if host.startswith(("ws://", "wss://")) else f"ws://{host}"
        self.address = address if port is None else f"{address}:{port}"
        self._path = f"/?{urlencode({'robot': robot})}" if robot else ""
        self.timeout, self.late = timeout, late
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else {}
        self._tls = ssl.create_default_context(cafile=ca) if self.address.startswith("wss://") else None
        self._connection: ClientConnection | None = None
        self._exit = ExitStack()  # closes the connection
        self._sent, self._hold = 0, None
        self._pause, self._next_try = FIRST_PAUSE, 0.0
        self.metadata: dict[str, Any] = {}
        self._first_connection(time.monotonic() + wait)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """What to do now.

        Args:
            observation: pictures, state and instruction under any of the names in ``metadata["keys"]``.

        Returns:
            ``actions``, float32 ``[horizon, a]``, and what ``docs/serving.md`` lists beside it. When it is late and
            ``late="hold"``: one action without motion, ``"late": True``, and why under ``safety``.

        Raises:
            Refused: the server refused this observation, or failed.
            Late: no answer within ``timeout`` (or no connection), and ``late="raise"`` or nothing to hold yet.
        """
        try:
            reply = self._ask(dict(observation))
        except Late as error:
            if self.late == "raise" or self._hold is None:
                raise
            safety = {"mode": "hold", "reasons": [str(error)]}
            return {"actions": np.array([self._hold], np.float32), "late": True, "safety": safety}
        self._hold = reply.get("hold") or self._hold
        return reply

    def reset(self) -> dict[str, Any]:
        """A new episode: the server forgets what it remembers of this robot, and a stop ends. Raises as ``infer``."""
        self._hold = None  # where to hold absolute actions is another place then
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

    def _first_connection(self, until: float) -> None:
        while True:
            try:
                self._connect(until)
                return
            except Late as error:
                time.sleep(max(0.0, min(self._next_try, until) - time.monotonic()))
                if time.monotonic() >= until:
                    raise ConnectionError(str(error)) from error

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send, and wait for the answer to this message; those to earlier ones, which came too late, are dropped."""
        until = time.monotonic() + self.timeout
        connection = self._connection or self._connect(until)
        try:
            self._sent += 1
            connection.send(pack(message))
            while (reply := self._receive(connection, until)).get("sequence", self._sent) < self._sent:
                pass
        except TimeoutError:
            raise Late(f"no answer from {self.address} within {self.timeout:g} s") from None
        except (WebSocketException, OSError) as error:
            self._lost()
            raise Late(f"the connection to {self.address} is lost ({_reason(error)})") from error
        return reply

    def _receive(self, connection: ClientConnection, until: float) -> dict[str, Any]:
        message = connection.recv(timeout=max(0.0, until - time.monotonic()))
        if isinstance(message, str):
            self._lost()
            raise Refused(message)
        return unpack(message, LIMITS)

    def _connect(self, until: float) -> ClientConnection:
        now = time.monotonic()
        if now < self._next_try:
            raise Late(f"no connection to {self.address}; the next attempt is in {self._next_try - now:.2f} s")
        try:
            connection = self._exit.enter_context(
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
            _limit_sending(connection, self.timeout)
            self.metadata, self._sent = self._receive(connection, until), 0
        except InvalidStatus as error:
            told = error.response.body.decode(errors="replace").strip() or str(error)
            if error.response.status_code == CONNECTED:  # the robot's last connection may not be over for the server
                self._lost()
                raise Late(f"no connection to {self.address} ({told})") from error
            raise Refused(told) from error
        except (OSError, WebSocketException) as error:
            self._lost()
            raise Late(f"no connection to {self.address} ({_reason(error)})") from error
        self._connection, self._pause = connection, FIRST_PAUSE
        return connection

    def _lost(self) -> None:
        """The next attempt is a little later each time."""
        self.close()
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def _limit_sending(connection: ClientConnection, seconds: float) -> None:
    """A server that does not read must not hold up the robot either."""
    timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
