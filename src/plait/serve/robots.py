"""A safety envelope belongs to a robot: what must not be forgotten stays when the robot's connection ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from plait.safety.envelope import Envelope
from plait.serve.client import CONNECTED

KEPT = 256  # envelopes of robots that are not connected
LONGEST = 64  # characters of a name


def named(path: str) -> str:
    """The robot's name in the path of a request, as in ``/?robot=left``; empty where there is none."""
    return parse_qs(path.partition("?")[2]).get("robot", [""])[0]


class Robots:
    """The envelopes of a server's robots.

    Of a robot with a name the envelope is always kept. One without is known by its host, and its envelope is kept
    while it holds or is stopped: the next session without a name from there takes it over. Of more than ``KEPT`` the
    oldest in the best mode is dropped.

    Args:
        make: a new envelope; None: there are none.
    """

    def __init__(self, make: Callable[[], Envelope] | None) -> None:
        self._make = make
        self._connected: set[str] = set()
        self._kept: list[tuple[str, Envelope]] = []  # and whose they are

    def refusal(self, name: str) -> tuple[int, str] | None:
        """Why a robot of that name may not connect now: HTTP status and sentence."""
        if len(name) > LONGEST or not name.isprintable():
            return 400, f"robot: {name[:LONGEST]!r}; a name has at most {LONGEST} printable characters"
        if name in self._connected:
            return CONNECTED, f"robot {name!r} is connected already; end that session, or take another name"
        return None

    @contextmanager
    def connected(self, name: str, address: str) -> Iterator[Envelope | None]:
        """The robot's envelope, for one session.

        Args:
            name: empty for a robot without.
            address: ``host:port``, by which such a one is known.

        Raises:
            ValueError: ``refusal``.
        """
        if refusal := self.refusal(name):
            raise ValueError(refusal[1])
        whose = f"robot {name}" if name else f"host {address.rpartition(':')[0]}"
        envelope = self._take(whose)
        if envelope:
            envelope.name = name or address  # as the audit calls it
        if name:
            self._connected.add(name)
        try:
            yield envelope
        finally:
            self._connected.discard(name)
            if envelope and (name or envelope.mode.stands):
                self._kept.append((whose, envelope))
                if len(self._kept) > KEPT:
                    self._kept.remove(min(self._kept, key=lambda kept: kept[1].mode.rank))

    def _take(self, whose: str) -> Envelope | None:
        for place, (owner, envelope) in enumerate(self._kept):
            if owner == whose:
                del self._kept[place]
                envelope.resume()
                return envelope
        return self._make() if self._make else None
