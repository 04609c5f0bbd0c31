"""Does it work? Success by task, in scenes that training never saw, and where the episodes that fail end."""

from collections import Counter
from typing import Any

from plait.diagnose import page
from plait.diagnose.scenes import differing, views
from plait.diagnose.shown import bar, count, films
from plait.diagnose.subject import Answer, Subject, Tone
from plait.envs.metaworld.tasks import TIERS
from plait.evaluate.statistics import Row, manipulated

QUESTION = "Does it work?"
GOOD, POOR = 90.0, 50.0  # percent of success: from here on it works, and below this it does not
PHASES = {
    "approach": "before it touches anything",
    "grasp": "while it grasps",
    "transport": "while it moves something",
    "release": "after it has let go",
}
SHOWN = 10  # tasks that are listed at once
GROUPS = {"per_family": "family", "per_tier": "difficulty", "per_split": "split"}
Summary = dict[str, Any]


def ask(subject: Subject) -> Answer:
    """Evaluate the scenes as they are and, where the environment has any, unseen combinations of words."""
    result = subject.normal()
    total, ends = result["aggregated"], failures(result["per_episode"])
    numbers = {"aggregated": total, "failures": ends, "protocol": result["protocol"]}
    numbers |= {name: result[name] for name in ("per_task", *GROUPS)}
    if result["protocol"]["env_args"].get("combinations") == "seen":  # of others, training may have had all
        env_args = {"combinations": "unseen"}
        unseen = subject.evaluate("unseen", "unseen combinations", env_args, contrast=True)
        numbers["unseen_combinations"] = unseen["aggregated"]
    parts = [page.intervals("Share of scenes; the thin line is the 95 % interval", _bars(numbers))]
    parts += [*films(subject, "normal", result), *_ends(ends)]
    if len(result["per_task"]) > 1:
        parts.append(_tasks(result["per_task"]))
    text = verdict(total, ends)
    if not differing(views(subject, 2).observation):
        text += " The environment begins every episode alike, whatever its seed: this is one scene again and again."
    return Answer(QUESTION, text, tone(total), numbers, tuple(parts))


def failures(rows: list[Row]) -> dict[str, int]:
    """How many of the episodes that fail end in which phase, and how many with another object than the named one."""
    failed = [row for row in rows if not row["success"]]
    phases = Counter(row["phase"] for row in failed if "phase" in row)
    other = sum(bool(manipulated(row) - {row["target"]}) for row in failed if "target" in row)
    ended = {phase: phases[phase] for phase in PHASES if phase in phases}
    return {"failed": len(failed), **ended, "other_object": other}


def verdict(total: Summary, ends: dict[str, int]) -> str:
    low, high = total["pc_success_ci95"]
    text = f"It succeeds in {count(total)} new scenes (95 % interval: {low:.0f} to {high:.0f} %)."
    phases = {phase: number for phase, number in ends.items() if phase in PHASES}
    if not phases:
        return text
    where, number = max(phases.items(), key=lambda item: item[1])
    failed, other = ends["failed"], ends["other_object"]
    if other * 2 > failed:
        those = f"{other} of {failed} failures" if failed > 1 else "its one failure"
        return f"{text} In {those} it acts on another object than the named one."
    those = f"{number} of {failed} failures end" if number > 1 else f"One of {failed} failures ends"
    return f"{text} {those if failed > 1 else 'Its one failure ends'} {PHASES[where]}."


def tone(total: Summary) -> Tone:
    good = total["pc_success"] >= GOOD and total["pc_success_ci95"][0] > POOR  # not by two of two
    return "good" if good else "bad" if total["pc_success"] < POOR else "plain"


def _bars(numbers: dict[str, Any]) -> list[page.Interval]:
    bars = [bar(numbers["aggregated"], "pc_success", "All scenes")]
    for table, what in GROUPS.items():
        if len(groups := numbers[table]) > 1:
            names = sorted(groups, key=lambda name: TIERS.index(name) if name in TIERS else 0)
            bars += [bar(groups[name], "pc_success", name.replace("_", " "), what) for name in names]
    if "unseen_combinations" in numbers:
        note = "pairs of words that training never has together"
        bars.append(bar(numbers["unseen_combinations"], "pc_success", "Unseen combinations", note, "plain"))
    return bars


def _ends(ends: dict[str, int]) -> list[str]:
    if not ends["failed"] or len(ends) == 2:
        return []
    rows = [(f"{phase}, {PHASES[phase]}", str(number)) for phase, number in ends.items() if phase in PHASES]
    rows.append(("of all: another object than the named one was moved", str(ends["other_object"])))
    those = f"{ends['failed']} episodes that fail end" if ends["failed"] > 1 else "one episode that fails ends"
    return [page.table(f"Where the {those}", ("phase", "episodes"), rows)]


def _tasks(tasks: dict[str, Summary]) -> str:
    """The worst first; behind the first ten, the others unfold."""
    ordered = sorted(tasks.items(), key=lambda item: item[1]["pc_success"])
    rows = [
        (name, f"{total['pc_success']:.0f} %", "{:.0f}–{:.0f}".format(*total["pc_success_ci95"]), count(total))
        for name, total in ordered
    ]
    header = ("task", "success", "95 % interval", "episodes")
    worst = page.table("Success by task, the worst first", header, rows[:SHOWN])
    rest = rows[SHOWN:]
    return worst + (page.folded(f"{len(rest)} more tasks", page.table("The others", header, rest)) if rest else "")
