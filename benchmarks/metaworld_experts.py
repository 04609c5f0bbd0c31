"""Meta-World: how often the package's scripted experts succeed, the ceiling of a policy that imitates them.

    python benchmarks/metaworld_experts.py --hardware "2 CPU cores"

Nothing is drawn. Also: how long a control step, a picture and an episode's reset take on one core.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import tyro
from publish import RESULTS, publish, table

from plait import envs
from plait.envs.metaworld.tasks import GROUPS, TIERS
from plait.envs.opengl import backend
from plait.evaluate.statistics import share
from plait.record.demonstration import demonstrate

SIZE = 128  # pixels of the picture that is timed
NOTHING = np.zeros((0, 4), np.float32)  # actions: only a picture is drawn

Row = dict[str, Any]


def clock(call: Callable[..., Any], *arguments: Any, **named: Any) -> float:
    """The milliseconds of processor time that the call takes."""
    began = time.process_time()
    call(*arguments, **named)
    return 1000 * (time.process_time() - began)


def expert(task: str, tier: str, episodes: int) -> Row:
    """The expert in the scenes with seeds 0 to ``episodes - 1``, and what its successful episodes take."""
    env: Any = envs.make("metaworld", task=task, cameras=()).unwrapped
    env.reset(seed=0)  # compiles the task
    began, lengths, failed = time.process_time(), [], []
    for seed in range(episodes):
        demonstration = demonstrate(env, seed)
        lengths += [] if demonstration is None else [len(demonstration)]
        failed += [seed] if demonstration is None else []
    steps = sum(lengths) + len(failed) * env.horizon
    took = 1000 * (time.process_time() - began)
    success = share(seed not in failed for seed in range(episodes))
    length = mean(lengths) if lengths else None
    return {
        "task": task,
        "tier": tier,
        **success,
        "length": length,
        "ms_per_step": took / steps,
        "failed_seeds": failed,
    }


def drawing(task: str, pictures: int = 10) -> Row:
    """Milliseconds: to compile the task and draw it first, to reset it, and of a picture."""
    env: Any = envs.make("metaworld", task=task, size=SIZE).unwrapped
    first, again = clock(env.reset, seed=0), clock(env.reset, seed=0)
    picture = mean(clock(env.advance, NOTHING) for _ in range(pictures))
    return {"task": task, "first_reset": first, "reset_with_picture": again, "picture": picture}


def tiers_table(rows: list[Row], episodes: int) -> str:
    tiers = {tier: pooled([row for row in rows if row["tier"] == tier], episodes) for tier in TIERS}
    lines = [[tier.replace("_", " "), len(GROUPS[tier]), *percent(success)] for tier, success in tiers.items()]
    lines += [
        ["mean of the tiers", len(rows), f"{mean(success['pc_success'] for success in tiers.values()):.1f} %", ""]
    ]
    lines += [["all episodes", len(rows), *percent(pooled(rows, episodes))]]
    return table(("tier", "tasks", "success", "95 % interval"), lines)


def pooled(rows: list[Row], episodes: int) -> Row:
    return share(seed not in row["failed_seeds"] for row in rows for seed in range(episodes))


def percent(success: Row) -> list[str]:
    return [f"{success['pc_success']:.1f} %", "{:.1f} – {:.1f}".format(*success["pc_success_ci95"])]


def tasks_table(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        success, steps = f"{row['pc_success']:.0f} %", "" if row["length"] is None else f"{row['length']:.0f}"
        lines.append(
            [row["task"], row["tier"].replace("_", " "), success, steps, ", ".join(map(str, row["failed_seeds"]))]
        )
    return table(("task", "tier", "success", "steps of a success", "failed seeds"), lines)


def costs_table(rows: list[Row], drawn: list[Row]) -> str:
    what = {"first_reset": "first reset of a task (compiles it, uploads its textures, draws)"}
    what |= {"reset_with_picture": "later reset, with a picture", "picture": f"a picture of {SIZE} pixels"}
    columns = {label: [row[key] for row in drawn] for key, label in what.items()}
    columns |= {"a control step with its expert, without pictures": [row["ms_per_step"] for row in rows]}
    lines = [[label, f"{mean(ms):.1f} ms", f"{max(ms):.1f} ms"] for label, ms in columns.items()]
    return table(("processor time", "mean over tasks", "slowest task"), lines)


def main(hardware: str = "2 CPU cores", episodes: int = 20, report: Path = RESULTS) -> None:
    """Measure; prints the tables and writes them.

    Args:
        hardware: as it shall stand in the file's name.
        episodes: of each task; their seeds count from 0.
        report: folder of the results file.
    """
    os.environ |= {"LP_NUM_THREADS": "0"}  # as in the processes that record: Mesa draws in the thread that asks
    tasks = [(task, tier) for tier in TIERS for task in GROUPS[tier]]
    rows = []
    for task, tier in tasks:
        rows.append(expert(task, tier, episodes))
        print(f"{task:32} {rows[-1]['pc_success']:5.1f} %", flush=True)
    drawn = [drawing(task) for task, _ in tasks]
    about = f"{episodes} episodes of each task, seeds 0 to {episodes - 1}, at most 500 steps, no noise."
    sections = [about, tiers_table(rows, episodes), tasks_table(rows), f"On one core ({backend()}):"]
    sections += [costs_table(rows, drawn)]
    print("\n\n".join(["", *sections]))
    data = {"opengl": backend(), "episodes": episodes, "experts": rows, "milliseconds": drawn}
    publish("metaworld_experts", "Experts of Meta-World", hardware, "\n\n".join(sections), data, report)


if __name__ == "__main__":
    tyro.cli(main)
