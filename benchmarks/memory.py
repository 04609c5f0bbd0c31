"""A task that needs a memory: what is reached without one, and with each.

    python benchmarks/memory.py --out runs/memory --hardware "2 CPU cores"

A lamp shows a colour, goes dark, and "the ball of the colour that was shown" is to be picked up; two balls lie there
(tabletop, family ``recall``). All policies get the same demonstrations, updates and samples per update; what differs is
what they remember. About ten minutes of training each on two cores, and the same command continues after an
interruption; on a GPU it is the same run, only faster.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import tyro

from plait import checkpoint
from plait.config import to_dict
from plait.evaluate.rollout import evaluate
from plait.memory import Memory, MemoryAttentionConfig, RecurrentConfig
from plait.recipes import RECIPES, Recipe
from plait.record.recorder import record
from plait.train.policy import train

RESULTS = Path(__file__).parent / "results"
ENV_ARGS = {"family": "recall"}
MOMENTS = (
    8  # the present and the 7 looks before it: 28 control steps, from the flash to where the hand is at its target
)
MEMORIES: dict[str, Memory | None] = {
    "none": None,
    "recurrent, LSTM": RecurrentConfig(steps=MOMENTS),
    "recurrent, GRU": RecurrentConfig(steps=MOMENTS, cell="gru"),
    "attention": MemoryAttentionConfig(steps=MOMENTS),
}


@dataclass(frozen=True)
class Result:
    """How one policy did. ``lifted``: how often which object was lifted first."""

    name: str
    parameters: int
    minutes: float
    evaluation: dict[str, Any]
    lifted: dict[str, int]

    @property
    def row(self) -> str:
        total = self.evaluation["aggregated"]
        low, high = total["pc_success_ci95"]
        lifted = " | ".join(str(count) for count in self.lifted.values())
        success = f"{total['pc_success']:.1f} % | {low:.0f} – {high:.0f}"
        return f"| {self.name} | {success} | {lifted} | {self.parameters / 1e6:.2f} M | {self.minutes:.1f} min |"


def first_lifted(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Over all episodes: the object that is meant, the one of the named shape in the other colour, another, none."""
    counts: dict[str, int] = dict.fromkeys(("meant", "other colour", "other shape", "none"), 0)
    for row in rows:
        first = row["lifted"].split(",")[0]
        same_shape = first.split()[-1:] == row["target"].split()[-1:]
        kind = "none" if not first else "other colour" if same_shape else "other shape"
        counts["meant" if first == row["target"] else kind] += 1
    return counts


def settings(memory: Memory | None, steps: int, batch_size: int, seed: int) -> Recipe:
    """The quickstart's recipe with a memory, and as many samples per update as windows of eight frames allow."""
    recipe = RECIPES["tabletop-pick"]()
    numbers = {"steps": steps, "batch_size": batch_size, "learning_rate": 2e-3, "seed": seed, "cuda_graph": True}
    return Recipe(replace(recipe.policy, memory=memory), replace(recipe.train, **numbers))


def results(
    out: Path, names: tuple[str, ...], steps: int, batch_size: int, episodes: int, seed: int
) -> Iterator[Result]:
    for name in names:
        recipe, run = settings(MEMORIES[name], steps, batch_size, seed), out / name.replace(", ", "-")
        began = time.perf_counter()
        train(recipe.policy, recipe.train, out / "dataset", run)
        minutes = (time.perf_counter() - began) / 60
        policy = checkpoint.load(run)
        evaluation = evaluate(policy, "tabletop", ENV_ARGS, episodes=episodes, out=run / "eval", title=name)
        parameters = sum(weight.numel() for weight in policy.parameters())
        yield Result(name, parameters, minutes, evaluation, first_lifted(evaluation["per_episode"]))


def write(report: dict[str, Any], table: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    about = f"`{report['command']}`: {report['demonstrations']} demonstrations, {report['train']['steps']} updates of "
    about += (
        f"{report['train']['batch_size']} samples, seed {report['train']['seed']}; a sample is one frame without a "
    )
    about += f"memory, a window of {MOMENTS} frames with one."
    chance = (
        "A policy that remembers nothing cannot do better than 50 %: two objects have the named shape, and nothing "
    )
    chance += "in the dark tells which is meant."
    text = f"# Memory, {report['hardware']}, {report['date']}\n\n{about}\n\n{table}\n\n{chance}\n\n"
    path.with_suffix(".md").write_text(f"{text}Protocol: `{json.dumps(report['protocol'])}`\n", encoding="utf-8")


def main(
    out: Path,
    hardware: str = "2 CPU cores",
    demonstrations: int = 1500,
    steps: int = 3000,
    batch_size: int = 40,
    episodes: int = 200,
    seed: int = 0,
    names: tuple[str, ...] = tuple(MEMORIES),
    workers: int = 2,
    report: Path = RESULTS,
) -> None:
    """Record, train and evaluate; prints a table and writes it.

    Args:
        out: folder of the dataset and the runs.
        hardware: as it shall stand in the file's name.
        demonstrations: episodes of the training data.
        steps, batch_size, seed: of each training.
        episodes: of each evaluation.
        names: which memories.
        workers: processes that record.
        report: folder of the results file.
    """
    record("tabletop", out / "dataset", demonstrations, ENV_ARGS, workers)
    heads = ("memory", "success", "95 % interval", "lifted first: meant", "other colour", "other shape", "none")
    lines = [f"| {' | '.join((*heads, 'parameters', 'training'))} |", "|---" * 9 + "|"]
    print("\n".join(lines))
    found = []
    for result in results(out, names, steps, batch_size, episodes, seed):
        print(result.row, flush=True)
        lines.append(result.row)
        found.append(result)
    recipe, today = settings(None, steps, batch_size, seed), date.today().isoformat()
    described = {
        "hardware": hardware,
        "date": today,
        "command": "python benchmarks/memory.py",
        "demonstrations": demonstrations,
        "train": to_dict(recipe.train),
        "policy": to_dict(recipe.policy),
        "memories": {name: to_dict(MEMORIES[name]) for name in names},
        "protocol": found[-1].evaluation["protocol"],
        "results": {r.name: {**r.evaluation["aggregated"], "lifted": r.lifted, "minutes": r.minutes} for r in found},
    }
    write(described, "\n".join(lines), report / f"memory_{hardware.replace(' ', '-')}_{today}")


if __name__ == "__main__":
    tyro.cli(main)
