"""What a check finds."""

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One sentence that names the value, the rule and the way out, and the numbers behind it.

    ``check`` is the name of the check, which ``examine`` fills in.
    """

    severity: Severity
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    check: str = ""


def skipped(reason: str) -> Finding:
    return Finding("skipped", reason)


def some(values: list[Any], most: int = 5) -> str:
    """``3, 5, 8 and 12 more``."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
