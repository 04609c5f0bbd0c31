"""The mode of one robot: nominal, degraded, hold or stopped. Worse as soon as asked, better only after a while."""

from enum import StrEnum

from plait.config import refuse_small


class Mode(StrEnum):
    """What the robot is allowed to do."""

    NOMINAL = "nominal"
    """everything"""
    DEGRADED = "degraded"
    """to act without what has failed, slowly"""
    HOLD = "hold"
    """to stay where it is, with the gripper as it is"""
    STOPPED = "stopped"
    """as in hold, until somebody resets it"""

    @property
    def rank(self) -> int:
        """0 for nominal, up to 3 for stopped."""
        return ORDER.index(self)

    @property
    def stands(self) -> bool:
        """Whether nothing may move."""
        return self in (Mode.HOLD, Mode.STOPPED)

    @property
    def asks(self) -> bool:
        """Whether the policy is asked. In hold too, though nothing it says is done: what it makes of its inputs tells
        when they are usual again.
        """
        return self is not Mode.STOPPED


ORDER = tuple(Mode)


class Machine:
    """Counts ticks of evidence. It gets worse by as much as was asked for, and better one step at a time.

    Args:
        degrade_after, hold_after: ticks in a row in which at least that mode is asked for, until it is entered.
        stop_after: ticks in hold, in a row, until the robot is stopped.
        recover_after: ticks in a row in which a better mode is asked for, until the next better one is entered.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, degrade_after: int = 1, hold_after: int = 1, stop_after: int = 50, recover_after: int = 5):
        numbers = {"degrade_after": degrade_after, "hold_after": hold_after}
        numbers |= {"stop_after": stop_after, "recover_after": recover_after}
        refuse_small(**{name: (value, 1) for name, value in numbers.items()})
        self._after = {Mode.DEGRADED: degrade_after, Mode.HOLD: hold_after}
        self._stop_after, self._recover_after = stop_after, recover_after
        self.reset()

    def reset(self) -> None:
        """Nominal, with nothing counted. The only way out of stopped."""
        self.mode = Mode.NOMINAL
        self._asked = dict.fromkeys(self._after, 0)  # ticks in a row in which at least this mode is asked for
        self._better = self._held = 0

    def tick(self, asked: Mode) -> Mode:
        """One tick in which the evidence asks for ``asked``; the mode from now on. Asked to stop, it stops at once."""
        if self.mode is Mode.STOPPED or asked is Mode.STOPPED:
            self.mode = Mode.STOPPED
            return self.mode
        for mode in self._after:
            self._asked[mode] = self._asked[mode] + 1 if asked.rank >= mode.rank else 0
        due = [mode for mode, after in self._after.items() if self._asked[mode] >= after]
        worst = max(due, key=lambda mode: mode.rank, default=Mode.NOMINAL)
        self._better = self._better + 1 if asked.rank < self.mode.rank else 0
        if worst.rank > self.mode.rank:
            self.mode, self._better = worst, 0
        elif self._better >= self._recover_after:
            self.mode, self._better = ORDER[self.mode.rank - 1], 0
        self._held = self._held + 1 if self.mode is Mode.HOLD else 0
        if self._held >= self._stop_after:
            self.mode = Mode.STOPPED
        return self.mode
