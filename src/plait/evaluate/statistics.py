"""What may be concluded from n episodes: shares with Wilson intervals, in total and by group.

Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927). Unlike the textbook
interval it stays inside [0, 1] and is right at 0 % and 100 %, which is where robot evaluations live.
"""

from collections.abc import Callable, Iterable, Sequence
from math import hypot, sqrt
from statistics import NormalDist
from typing import Any

Row = dict[str, Any]  # one episode of eval.json


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval for a probability of which ``successes`` out of ``n`` were seen; (0, 1) when n is 0.

    >>> wilson(10, 10)[0] > 0.7
    True
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, shrink = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half  # exact at the borders, where rounding would leave 1e-17
    high = 1.0 if successes == n else centre + half
    return low, high


def difference(one: Row, other: Row) -> tuple[float, float]:
    """The 95 % interval, in percent, for how much higher ``one``'s rate of success is; both are summaries.

    Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
    (1998), method 10. Where both saw the same scenes it is wider than it needs to be.
    """
    gap = one["pc_success"] - other["pc_success"]
    (low, high), (other_low, other_high) = one["pc_success_ci95"], other["pc_success_ci95"]
    below = hypot(one["pc_success"] - low, other_high - other["pc_success"])
    above = hypot(high - one["pc_success"], other["pc_success"] - other_low)
    return gap - below, gap + above


def share(flags: Iterable[bool], name: str = "pc_success") -> dict[str, Any]:
    """``{name: percent or None, name_ci95: [low, high] in percent}`` of the flags that are true."""
    values = list(map(bool, flags))
    low, high = wilson(sum(values), len(values))
    percent = round(100 * sum(values) / len(values), 2) if values else None
    return {name: percent, f"{name}_ci95": [round(100 * low, 2), round(100 * high, 2)]}


def by_tier(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Success in each ``tier`` that the episodes tell of."""
    tiers = dict.fromkeys(row["tier"] for row in rows if row.get("tier"))
    return {tier: share(row["success"] for row in rows if row.get("tier") == tier) for tier in tiers}


def mean_of_tiers(rows: Sequence[Row]) -> dict[str, Any]:
    """The unweighted mean of the tiers' success, in which Meta-World's results are published, as ``share`` tells it.

    Its interval combines those of the tiers (MOVER: Zou & Donner, Statistics in Medicine 27, 2008).
    """
    tiers = list(by_tier(rows).values())
    if not tiers:
        return {"pc_success": None, "pc_success_ci95": [0.0, 100.0]}
    centre = sum(tier["pc_success"] for tier in tiers) / len(tiers)
    below, above = (hypot(*(t["pc_success"] - t["pc_success_ci95"][side] for t in tiers)) for side in (0, 1))
    interval = [round(centre - below / len(tiers), 2), round(centre + above / len(tiers), 2)]
    return {"pc_success": round(centre, 2), "pc_success_ci95": interval}


def manipulated(row: Row) -> set[str]:
    """The objects that the robot acted on in this episode: pushed ones when the family is push, else lifted ones."""
    names = row.get("moved" if row.get("family") == "push" else "lifted") or ""
    return set(filter(None, names.split(",")))


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Success, and whether the object that was acted on is the one that the words name, each with its interval.

    ``pc_named``: the object named in the instruction was manipulated. ``pc_first_named``: the object that the scene's
    normal instruction names was; when the instruction was exchanged, that is a policy that ignores the words. Both are
    None where the environment does not tell.
    """
    told = [row for row in rows if row.get("target")]
    return {
        **share(row["success"] for row in rows),
        "n_episodes": len(rows),
        "mean_steps": round(sum(row["steps"] for row in rows) / len(rows), 1) if rows else None,
        **share((row["target"] in manipulated(row) for row in told), "pc_named"),
        **share((row.get("first_named") in manipulated(row) for row in told), "pc_first_named"),
    }


def grouped(rows: Sequence[Row], key: str | Callable[[Row], str]) -> dict[str, dict[str, Any]]:
    """``summarise`` for each value of ``key``, sorted by that value; rows without one are left out."""
    of = (lambda row: row.get(key)) if isinstance(key, str) else key
    values = sorted({value for row in rows if (value := of(row))})
    return {value: summarise([row for row in rows if of(row) == value]) for value in values}
