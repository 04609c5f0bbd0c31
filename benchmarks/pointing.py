"""Do the maps of where a policy looks point at the object that it is told to pick? The simulator knows where that is.

python benchmarks/pointing.py --out runs/pointing --hardware H100

Trains one policy for each fusion on the same demonstrations, unless it is trained already or given with --take. The
scenes are in no training, and not among those (seed 9) on which the ways to make maps were chosen.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import tyro
from publish import RESULTS, publish, table

from plait import checkpoint
from plait.config import members, to_dict
from plait.data.lerobot import Dataset
from plait.diagnose.heatmaps import heatmaps
from plait.diagnose.masking import DRAWS, SHARE, masking
from plait.diagnose.pointing import pointing
from plait.diagnose.scenes import views
from plait.diagnose.subject import Subject
from plait.fusion import Fusion
from plait.nn.device import pick_device
from plait.policy import Policy
from plait.processes import processors
from plait.recipes import RECIPES, Recipe
from plait.record.recorder import record
from plait.train.policy import train

ENV_ARGS = {"vocabulary": "large"}
FUSIONS = ("film", "multiscale", "cross_attention", "unified", "hierarchical", "bottleneck")
BASE = RECIPES["tabletop-pick"]()  # trained as in the comparison of fusions, in which all of these learn the task
TRAIN = replace(BASE.train, steps=4_000, batch_size=512, learning_rate=3e-3, keep=1)
CAMERAS = ("front", "wrist")
HEADER = (
    *("fusion", "maps from", "success", "hidden: top / random", "camera"),
    *("on the named object", "chance", "on another", "chance", "density, named", "density, others"),
)
READING = f"""\
"On the named object": share of the scenes that show it in which the map's maximum lies on it, with its 95 % Wilson
interval; chance is its share of the picture, which an even map scores. "Density": the share of the map on it over the
share of an even map, with a bootstrap interval over scenes; an even map has 1. "Hidden": how much further the predicted
actions move when the highest {100 * SHARE:.0f} % of each camera's patches are hidden than when as many random ones are
(mean of {DRAWS} draws), with a bootstrap interval over scenes. Maps are those of the instruction as a whole, at the
first moment of each scene; attention is averaged over layers, heads, words and queries."""
Row = dict[str, Any]


def recipe(fusion: str, steps: int | None) -> Recipe:
    """With the fusion's default settings."""
    policy = replace(BASE.policy, fusion=members(Fusion)[fusion](), keyframe=None)
    return Recipe(policy, replace(TRAIN, steps=steps or TRAIN.steps))


def examine(policy: Policy, scenes: int, episodes: int, workers: int | None) -> Row:
    """Everything that the table tells of one policy."""
    subject = Subject(policy, "tabletop", ENV_ARGS, episodes=episodes, workers=workers)
    seen = views(subject, scenes)
    inputs = policy.prepare(seen.observation)
    assert seen.truth is not None, "the tabletop has masks"
    ways = {found.method: found.whole() for found in (heatmaps(policy, inputs, way) for way in (True, False))}
    return {
        "success": subject.evaluate("success")["aggregated"],
        "maps": {
            method: {"masking": masking(policy, inputs, maps), "pointing": pointing(maps, seen.truth)}
            for method, maps in ways.items()
        },
    }


def lines(fusion: str, row: Row) -> Iterator[tuple[str, ...]]:
    """One for each way to make maps and each camera."""
    success = _percent(row["success"], "pc_success")
    for (method, maps), camera in product(row["maps"].items(), CAMERAS):
        hidden = "{:.1f} [{:.1f}, {:.1f}]".format(maps["masking"]["ratio"], *maps["masking"]["ratio_ci95"])
        about, score = (fusion, method, success, hidden, camera), maps["pointing"][camera]
        if not score["n"]:
            yield *about, *["never shown"] * 6
            continue
        hits = (_percent(score, "hit"), f"{score['chance']:.1f} %", _percent(score, "distracted"))
        chance, gains = (
            f"{score['chance_distracted']:.1f} %",
            (_times(score, "gain"), _times(score, "gain_distractors")),
        )
        yield *about, *hits, chance, *gains


def _percent(score: Row, name: str) -> str:
    low, high = score[f"{name}_ci95"]
    return f"{score[name]:.1f} % [{low:.0f}, {high:.0f}]"


def _times(score: Row, name: str) -> str:
    low, high = score[f"{name}_ci95"]
    return f"{score[name]:.1f} [{low:.1f}, {high:.1f}]"


def main(
    out: Path,
    hardware: str = "2 CPU cores",
    fusions: tuple[str, ...] = FUSIONS,
    take: dict[str, Path] | None = None,
    demonstrations: int = 3200,
    steps: int | None = None,
    scenes: int = 200,
    episodes: int = 200,
    workers: int | None = None,
    report: Path = RESULTS,
) -> None:
    """Train what is missing, measure, print the table and write it.

    Args:
        out: folder of the dataset and the runs; what is finished there is taken as it is.
        hardware: as it shall stand in the file's name.
        fusions: which are trained; each with its default settings.
        take: checkpoints that are measured as well, by a name for the table.
        demonstrations: that each policy is trained on.
        steps: of each training; the recipe's number when omitted.
        scenes: of the pointing game.
        episodes: that measure success.
        workers: processes that simulate; one per processor when omitted.
        report: folder of the results file.
    """
    folders = dict(take or {})
    settings = {fusion: recipe(fusion, steps) for fusion in fusions}
    if settings:
        record("tabletop", out / "dataset", demonstrations, ENV_ARGS, workers or processors())
    for fusion, chosen in settings.items():
        folders[fusion] = train(chosen.policy, chosen.train, Dataset.open(out / "dataset"), out / "runs" / fusion)
    device = pick_device("auto")
    found = {
        name: examine(checkpoint.load(folder).to(device), scenes, episodes, workers) for name, folder in folders.items()
    }
    shown = table(HEADER, (line for name, row in found.items() for line in lines(name, row)))
    print(shown)
    about = f"{scenes} scenes, seed 0; {demonstrations:,} demonstrations, training seed 0."
    recipes = {fusion: {"policy": to_dict(r.policy), "train": to_dict(r.train)} for fusion, r in settings.items()}
    described = {"scenes": scenes, "demonstrations": demonstrations, "results": found, "recipes": recipes}
    text = f"{about}\n\n{shown}\n\n{READING}"
    publish("pointing", "Do the maps point at the named object?", hardware, text, described, report)


if __name__ == "__main__":
    tyro.cli(main)
