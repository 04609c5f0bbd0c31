"""``plait compare``: which fusion, when; and what each costs."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from plait.cli.parse import Verb, folder, pairs
from plait.config import members


@dataclass(frozen=True)
class Compare(Verb):
    """Compare fusions at equal data, updates and size, in closed loop; with --cost, by what they cost alone."""

    kept = "finished cells stay, and the same command continues"

    env: str | None = None
    """An environment with an expert, such as tabletop; not with --cost."""
    fusion: tuple[str, ...] = ()
    """Which ones, such as film early late; all of them when left out."""
    demos: tuple[int, ...] = (200,)
    """Numbers of demonstrations; one dataset of the largest is recorded."""
    seeds: int = 3
    """Trainings of each kind."""
    out: str | None = None
    """Folder of the dataset, the cells and the results; with --cost, of cost.json."""
    env_args: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the environment, such as family=pick vocabulary=large."""
    recipe: str = "tabletop-pick"
    """Of the policy and its training; its own fusion is the reference for the size."""
    steps: int | None = None
    """Of each training; the recipe's number when left out."""
    batch_size: int | None = None
    """Samples per update; the recipe's number when left out."""
    keyframe: bool = True
    """With the recipe's auxiliary keyframe head, which helps short trainings and long ones not."""
    learning_rate: Annotated[tuple[str, ...], arg(metavar="FUSION=RATE ...")] = ()
    """Of some fusions, such as unified=5e-4; the recipe's for all others."""
    rates: tuple[float, ...] = ()
    """Learning rates to choose from, such as 3e-4 1e-3 3e-3: each fusion gets the one that leaves it the least held-out
    action loss with the first seed and the most demonstrations."""
    episodes: int = 100
    """Of each evaluation."""
    mispaired: tuple[int, ...] = ()
    """Percents of the demonstrations that get the instruction of another one, such as 5 20 50."""
    contrasts: tuple[Literal["vision_only", "words_only"], ...] = ("vision_only", "words_only")
    """What is tried beside the fusions, with the recipe's own; --contrasts alone leaves them out."""
    jobs: int = 1
    """Trainings at the same time."""
    workers: int | None = None
    """Processes that simulate; one per processor when left out."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto = cuda when there is one."""
    cost: bool = False
    """Parameters, arithmetic, time and memory of each fusion alone, at two sizes; nothing is trained."""

    def run(self) -> None:
        from plait.compare.cell import refuse_unknown
        from plait.fusion import Fusion

        fusions = [name.replace("-", "_") for name in self.fusion] or list(members(Fusion))
        for name in fusions:
            refuse_unknown(name)
        if self.cost:
            self._cost(fusions)
        else:
            self._compare(fusions)

    def _cost(self, fusions: list[str]) -> None:
        from rich.console import Console

        from plait.compare.cost import as_json, cost_tables, fusion_costs

        if self.env is not None:
            raise ValueError("compare: --cost measures the fusions alone; leave out --env, or leave out --cost.")
        out = None if self.out is None else folder(self.out, "--out")
        costs = fusion_costs(fusions, self.device)
        console = Console()
        for table in cost_tables(costs):
            console.print(table, "")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "cost.json").write_text(json.dumps(as_json(costs), indent=1) + "\n", encoding="utf-8")

    def _compare(self, fusions: list[str]) -> None:
        from rich.console import Console

        from plait.compare.cell import Setup
        from plait.compare.comparison import compare
        from plait.compare.report import NOTES, tables

        if self.env is None or self.out is None:
            raise ValueError("compare: --env ENV and --out DIR are needed, or --cost.")
        rates = {name.replace("-", "_"): rate for name, rate in pairs(self.learning_rate, "--learning-rate").items()}
        env_args = pairs(self.env_args, "--env-args")
        numbers = {name: getattr(self, name) for name in ("steps", "batch_size", "keyframe", "rates", "episodes")}
        setup = Setup(self.env, env_args, self.recipe, learning_rates=rates, **numbers)
        out = folder(self.out, "--out")
        lines = compare(
            setup,
            out,
            fusions,
            self.demos,
            self.seeds,
            mispaired=self.mispaired,
            contrasts=self.contrasts,
            jobs=self.jobs,
            workers=self.workers,
            device=self.device,
        )
        console = Console(highlight=False)
        for table in tables(lines):
            console.print(table, "")
        console.print(*NOTES, f"{out}/results.md, results.png and results.json", sep="\n", style="dim")
