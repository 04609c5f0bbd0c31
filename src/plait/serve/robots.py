"""A safety envelope belongs to a robot: what must not be forgotten stays when the robot's connection ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

from plait.safety.envelope import Envelope
from plait.serve.client import CONNECTED
from plait.serve.keys import Keys

KEPT = 256  # envelopes of robots that are not connected
LONGEST = 64  # characters of a name


def named(path: str) -> str:
    """The robot's name in the path of a request, as in ``/?robot=left``; empty where there is none."""
    return parse_qs(path.partition("?")[2]).get("robot", [""])[0]


@dataclass
class Robot:
    """What belongs to a robot, whatever becomes of its connection.

    Attributes:
        name: empty for a robot without.
        keys: of its observations; None before the first one.
    """

    name: str
    envelope: Envelope | None
    keys: Keys | None = None


class Robots:
    """The robots of a server.

    Of a robot with a name the envelope is always kept. One without is known by its host, and its envelope is kept
    while it holds or is stopped: the next session without a name from there takes it over. Of more than ``KEPT`` the
    oldest in the best mode is dropped.

    Args:
        make: a new envelope; None: there are none.
    """

    def __init__(self, make: Callable[[], Envelope] | None) -> None:
        self._make = make
        self._connected: set[str] = set()
        self._kept: list[tuple[str, Robot]] = []  # and by what they are known

    def refusal(self, name: str) -> tuple[int, str] | None:
        """Why a robot of that name may not connect now: HTTP status and sentence."""
        if len(name) > LONGEST or not name.isprintable():
            return 400, f"robot: {name[:LONGEST]!r}; a name has at most {LONGEST} printable characters"
        if name in self._connected:
            way = "end that session, take another name, or try again where that connection is lost"
            return CONNECTED, f"robot {name!r} is connected already; {way}"
        return None

    @contextmanager
    def connected(self, name: str, address: str) -> Iterator[Robot]:
        """The robot, for one session.

        Args:
            name: empty for a robot without.
            address: ``host:port``, by which such a one is known.

        Raises:
            ValueError: ``refusal``.
        """
        if refusal := self.refusal(name):
            raise ValueError(refusal[1])
        whose = f"robot {name}" if name else f"host {address.rpartition(':')[0]}"
        robot = self._take(whose) or Robot(name, self._make() if self._make else None)
        if envelope := robot.envelope:
            envelope.name = name or address  # as the audit calls it
        if name:
            self._connected.add(name)
        try:
            yield robot
        finally:
            self._connected.discard(name)
            if envelope and (name or envelope.mode.stands):
                self._kept.append((whose, robot))
                if len(self._kept) > KEPT:
                    self._kept.remove(min(self._kept, key=_rank))

    def _take(self, whose: str) -> Robot | None:
        for place, (owner, robot) in enumerate(self._kept):
            if owner == whose:
                del self._kept[place]
                assert robot.envelope is not None
                robot.envelope.resume(placed=bool(robot.name))  # one without may be another one of that host
                return robot
        return None


def _rank(kept: tuple[str, Robot]) -> int:
    assert kept[1].envelope is not None  # nobody else is kept
    return kept[1].envelope.mode.rank
