"""What the benchmark of Meta-World says: its episodes pooled, its tables beside published numbers, its protocol."""

from collections.abc import Iterable
from typing import Any

from publish import table

from plait.envs.metaworld.tasks import TIERS
from plait.evaluate.statistics import by_tier, mean_of_tiers, share

PUBLISHED = (  # the authors' own numbers: model, parameters, easy, medium, hard, very hard, mean of tiers, source
    ("FabriVLA", "0.89 B", 95.0, 88.2, 86.7, 90.0, 90.0, "arXiv 2607.08575"),
    ("LA4VLA-1B", "1 B", 88.9, 94.5, 66.7, 100.0, 87.5, "arXiv 2606.27295"),
    ("Evo-1", "0.77 B", 89.2, 76.8, 77.2, 79.2, 80.6, "arXiv 2511.04555"),
    ("ProgVLA", "0.1 B", None, None, None, None, 78.5, "arXiv 2605.28231"),
    ("SmolVLA", "2.25 B", 87.1, 51.8, 70.0, 64.0, 68.2, "arXiv 2506.01844"),
    ("SmolVLA", "0.45 B", 82.5, 41.8, 45.0, 60.0, 57.3, "arXiv 2506.01844"),
    ("pi0", "3.5 B", 80.4, 40.9, 36.7, 44.0, 50.5, "arXiv 2506.01844"),
    ("TinyVLA", "", 77.6, 21.5, 11.4, 15.8, 31.6, "arXiv 2506.01844"),
    ("Diffusion Policy", "", 23.1, 10.7, 1.9, 6.1, 10.5, "arXiv 2506.01844"),
)
MISSING = {"fast": "shadows, reflections and smooth edges", "smooth": "shadows and reflections"}
LIMITS = (
    "Pictures are drawn without {missing}. The demonstrations are recorded anew with the same scripted experts, "
    "{demonstrations} for each task (published: 50), but with an arm that is pushed off its way and a gripper that "
    "slips now and then (`--pushes 1 --slips 0.0167`), and a scene in which the expert is stuck for a while is "
    "recorded again (`--tries 5 --longest 250`); the published models were trained on other recordings. Of the "
    "camera's picture the policy sees the part in which the tasks take place (0.7 of its width and height, the same "
    "for all tasks). Push and push-back share one sentence, so that only the picture tells them apart."
)
Row = dict[str, Any]


def pooled(cells: Iterable[Row]) -> Row:
    """All episodes of these evaluations together: success with its interval, as mean of tiers and in every group."""
    rows = [row for cell in cells for row in cell["per_episode"]]
    tasks = dict.fromkeys((row["task_name"], row["tier"]) for row in rows)
    return {
        "n_episodes": len(rows),
        "mean_of_tiers": mean_of_tiers(rows),
        "by_episode": share(row["success"] for row in rows),
        "per_tier": by_tier(rows),
        "per_task": {
            task: {"tier": tier, **share(row["success"] for row in rows if row["task_name"] == task)}
            for task, tier in tasks
        },
    }


def _bracketed(found: Row, digits: int = 1, bold: str = "") -> str:
    low, high = found["pc_success_ci95"]
    return f"{bold}{found['pc_success']:.{digits}f}{bold} [{low:.{digits}f}, {high:.{digits}f}]"


def beside_published(found: Row, seeds: dict[int, Row], parameters: int | None) -> str:
    """plait's row above the published ones, and how many episodes it is of."""
    tiers = found["per_tier"]
    own = [f"{tiers[tier]['pc_success']:.1f}" if tier in tiers else "–" for tier in TIERS]
    each = " ".join(f"{one['mean_of_tiers']['pc_success']:.1f}" for one in seeds.values())
    mean = f"{_bracketed(found['mean_of_tiers'], bold='**')}, seeds {each}"
    lines = [("**plait**", f"{parameters / 1e6:.1f} M" if parameters else "–", *own, mean, "this file")]
    lines += [
        (name, size, *("–" if value is None else f"{value:.1f}" for value in values), source)
        for name, size, *values, source in PUBLISHED
    ]
    count = f"{_bracketed(found['by_episode'])} of {found['n_episodes']}, training seeds {', '.join(map(str, seeds))}"
    note = f"By episode: {count}. Published numbers are the authors' own. Brackets: 95 % intervals."
    header = ("model", "parameters", "easy", "medium", "hard", "very hard", "mean of tiers", "source")
    return f"{table(header, lines)}\n\n{note}"


def not_evaluated(seeds: list[int]) -> str:
    return f"**Not evaluated yet: seeds {', '.join(map(str, seeds))}.**" if seeds else ""


def by_control(controls: dict[str, Row]) -> str:
    header = ("what is changed", "training seeds", "episodes", "mean of tiers", "by episode")
    lines = []
    for title, found in controls.items():
        shares = (_bracketed(found[key]) for key in ("mean_of_tiers", "by_episode"))
        lines.append((title, ", ".join(map(str, found["seeds"])), found["n_episodes"], *shares))
    return table(header, lines) if lines else ""


def by_task(found: Row) -> str:
    """The weakest first."""
    tasks = sorted(found["per_task"].items(), key=lambda item: (item[1]["pc_success"], item[0]))
    return table(("task", "tier", "success"), [(task, one["tier"], _bracketed(one, 0)) for task, one in tasks])


def protocol(found: Row) -> str:
    """What an episode of an evaluation is, in words."""
    told, settings = found["cells"]["as trained"]["protocol"], found["settings"]
    head = settings["policy"]["head"]
    temperature = head["temperature"] if settings["temperature"] is None else settings["temperature"]
    (camera,), size = told["cameras"], told["policy_image_size"]
    left, top, right, bottom = told["env_args"]["crop"]
    return (
        f"Protocol: camera `{camera}` at {size} x {size} pixels (of its picture the part from {left:g}, {top:g} to "
        f"{right:g}, {bottom:g}), the hand's position and the gripper as state, one sentence a task; "
        f"{settings['episodes']} episodes for each task and training, at most {told['horizon']} steps, success at any "
        f"of them; a prediction every {told['execute']} steps, sampled in {head['steps']} Euler steps at temperature "
        f"{temperature:g}. Seeds of the episodes: {told['episode_seeds']}; seed = {told['seed']}, and so on "
        "for each further training."
    )


def latencies(phases: dict[str, Row]) -> str:
    """Of the last training's policy."""
    found = [found["latency"] for found in phases.values() if "latency" in found]
    lines = [
        (way, *(f"{ms[key]:.2f}" for key in ("p50_ms", "p99_ms"))) for way, ms in (found[-1] if found else {}).items()
    ]
    return table(("one prediction for one robot", "median (ms)", "99 % (ms)"), lines) if lines else ""


def without_episodes(found: Row) -> Row:
    """The numbers of a phase; of its episodes the summaries, and whether each was a success."""
    if "cells" not in found:
        return found
    return found | {
        "cells": {
            title: {
                **cell["aggregated"],
                **{key: cell[key] for key in ("per_task", "per_tier", "protocol")},
                "successes": [[row["task_name"], row["success"]] for row in cell["per_episode"]],
            }
            for title, cell in found["cells"].items()
        }
    }
