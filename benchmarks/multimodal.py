"""Two equally good ways around an obstacle: which heads take one of them, and which the middle between both?

    python benchmarks/multimodal.py --hardware "2 CPU cores"

A point moves in the plane, 0.05 a step, from the left to a goal on the right; a disc stands halfway. Demonstrations go
around it on a side that a coin chooses, so at the start nothing that is observed tells which. Every head gets the same
small encoder, data and updates. In evaluation it sees its position, the obstacle's and the goal's, predicts a
chunk of 8 steps and executes it: the first chunk decides. The demonstrations and the new scenes are the same for every
head and every training seed. One torch thread, about six minutes.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch
import tyro
from publish import RESULTS, publish, table
from torch import Tensor, nn

from plait.evaluate.statistics import wilson
from plait.heads import DiffusionConfig, DiscreteConfig, FlowConfig, Head, MixtureConfig, RegressionConfig
from plait.heads.diffusion import Diffusion
from plait.heads.flow import Flow
from plait.nn.normaliser import Normaliser
from plait.types import HeadPart, Shape, Tokens

STEP, STEPS, HORIZON = 0.05, 20, 8
RADIUS, REACH = 0.15, 0.1  # of the obstacle; how near to the goal is there
WIDTH = 64  # of the heads that are transformers
HEADS: dict[str, Head] = {
    "regression, L2": RegressionConfig(loss="mse"),
    "regression, L1": RegressionConfig(loss="l1"),
    "discrete, parallel": DiscreteConfig(width=WIDTH),
    "discrete, causal": DiscreteConfig(form="causal", width=WIDTH),
    "mixture": MixtureConfig(),
    "diffusion": DiffusionConfig(width=WIDTH),
    "flow": FlowConfig(width=WIDTH),
}
READING = """\
Reading: at the start both sides are equally right. Regression answers with something between both and drives into the
obstacle, except where a small deviation of the start is enough to tip it. Discrete bins cannot average, but in the
parallel form each step and entry chooses its side on its own, and some chunks mix both; the causal form, the mixture,
diffusion and flow commit to one side as a whole, with every training seed. To commit is not to use both sides: as they
are by default, these four answer the same scene with the same chunk, and how often each side is taken differs from
training to training, up to one side in all scenes. With drawn noise (same weights) diffusion and flow use both sides,
each in at least four of ten scenes."""


@dataclass(frozen=True)
class Demonstrations:
    """n moments of some episodes, in order."""

    seen: Tensor  # [n, 3, 2]: where the point, the obstacle and the goal are
    chunk: Tensor  # [n, HORIZON, 2]: the moves that follow
    mask: Tensor  # [n, HORIZON], False after the episode's end


def scenes(count: int, generator: torch.Generator) -> Tensor:
    """``[count, 3, 2]``: each obstacle stands between start and goal, at any height."""
    height = torch.empty(count, 1).uniform_(-0.3, 0.3, generator=generator)
    places = torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]).repeat(count, 1, 1)
    places[:, :, 1] = height
    places[:, 0, 1] += torch.empty(count).uniform_(-0.02, 0.02, generator=generator)
    return places


def demonstrate(count: int, seed: int = 0) -> Demonstrations:
    """``count`` episodes. Each step is disturbed a little and then corrected, so that corrections are learned too."""
    generator = torch.Generator().manual_seed(seed)
    scene = scenes(count, generator)
    side = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    width = side * torch.empty(count).uniform_(0.25, 0.35, generator=generator)
    point, seen, moves = scene[:, 0], [], []
    for _ in range(STEPS):
        seen.append(torch.stack([point, scene[:, 1], scene[:, 2]], dim=1))
        ahead = point[:, 0] + STEP
        around = (1 - torch.cos(2 * math.pi * ahead)) / 2
        target = torch.stack([ahead, scene[:, 1, 1] + width * around], dim=1)
        moves.append(target - point)
        point = target + torch.randn(count, 2, generator=generator) * torch.tensor([0.0, 0.005])
    padded = torch.stack([*moves, *[torch.zeros_like(moves[0])] * (HORIZON - 1)], dim=1)
    chunk = padded.unfold(1, HORIZON, 1).transpose(2, 3)
    mask = torch.arange(STEPS)[:, None] + torch.arange(HORIZON) < STEPS
    return Demonstrations(
        torch.stack(seen, dim=1).flatten(0, 1), chunk.flatten(0, 1), mask.expand(count, -1, -1).flatten(0, 1)
    )


class Pilot(nn.Module):
    """One token per thing that is seen, and a head on them."""

    def __init__(self, config: Head, demonstrations: Demonstrations, dim: int = 64):
        super().__init__()
        self.normalise_seen = _normaliser(demonstrations.seen.flatten(1))
        self.normalise_move = _normaliser(demonstrations.chunk[demonstrations.mask])
        self.embed = nn.ModuleList(nn.Sequential(nn.Linear(2, dim), nn.ReLU(), nn.Linear(dim, dim)) for _ in range(3))
        self.head: HeadPart = config.build(Shape(3, dim), HORIZON, 2)

    def tokens(self, seen: Tensor) -> Tokens:
        places = self.normalise_seen.normalise(seen.flatten(1)).split(2, dim=1)
        data = torch.stack([embed(place) for embed, place in zip(self.embed, places, strict=True)], dim=1)
        return Tokens(data, torch.ones(data.shape[:2], dtype=torch.bool))

    def loss(self, seen: Tensor, chunk: Tensor, mask: Tensor) -> Tensor:
        return self.head.loss(self.tokens(seen), self.normalise_move.normalise(chunk), mask)

    @torch.inference_mode()
    def plan(self, seen: Tensor) -> Tensor:
        return self.normalise_move.denormalise(self.head.act(self.tokens(seen)))


def _normaliser(values: Tensor) -> Normaliser:
    return Normaliser(values.mean(dim=0), values.std(dim=0))


def train(config: Head, data: Demonstrations, steps: int, seed: int = 0, batch: int = 128, rate: float = 2e-3) -> Pilot:
    torch.manual_seed(seed)
    pilot = Pilot(config, data)
    optimizer = torch.optim.AdamW(pilot.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        rows = torch.randint(len(data.seen), (batch,))
        pilot.loss(data.seen[rows], data.chunk[rows], data.mask[rows]).backward()
        nn.utils.clip_grad_norm_(pilot.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return pilot.eval()


def drive(pilot: Pilot, count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """In new scenes: the ways ``[count, STEPS + 1, 2]``, with the obstacle at height 0, and which of them succeed."""
    torch.manual_seed(seed)
    scene = scenes(count, torch.Generator().manual_seed(seed))
    way = [scene[:, 0]]
    while len(way) <= STEPS:
        plan = pilot.plan(torch.stack([way[-1], scene[:, 1], scene[:, 2]], dim=1))
        for move in plan.unbind(1):
            way.append(way[-1] + move)
    ways = torch.stack(way[: STEPS + 1], dim=1)
    between = torch.lerp(ways[:, :-1, None], ways[:, 1:, None], torch.linspace(0, 1, 5)[:, None]).flatten(1, 2)
    clear = ((between - scene[:, 1:2]).norm(dim=-1) > RADIUS).all(dim=1)
    there = (ways[:, -1] - scene[:, 2]).norm(dim=-1) < REACH
    return _beside(ways, scene), clear & there


def _beside(ways: Tensor, scene: Tensor) -> Tensor:
    """The ways with the obstacle at height 0."""
    return ways - scene[:, 1:2] * torch.tensor([0.0, 1.0])


@dataclass(frozen=True)
class Result:
    """How one training did: the ways it went, which of them succeeded, and how long the training took."""

    name: str
    seed: int
    ways: Tensor
    success: Tensor
    seconds: float

    @property
    def counts(self) -> dict[str, Any]:
        """Of the scenes those that it passed, and of these those that it passed above the obstacle."""
        passed = self.ways[self.success]
        above = int((passed[:, STEPS // 2, 1] > 0).sum())
        return {
            "head": self.name,
            "seed": self.seed,
            "success": _share(len(passed), len(self.ways)),
            "above": _share(above, len(passed)),
            "training_s": round(self.seconds, 1),
        }


def _share(count: int, n: int) -> dict[str, Any]:
    """With its Wilson interval, in percent."""
    return {"count": count, "n": n, "pc_ci95": [round(100 * end, 1) for end in wilson(count, n)] if n else None}


def results(seeds: int, steps: int, episodes: int, demonstrations: int) -> Iterator[Result]:
    data = demonstrate(demonstrations)
    for (name, config), seed in product(HEADS.items(), range(seeds)):
        began = time.perf_counter()
        pilot = train(config, data, steps, seed)
        seconds = time.perf_counter() - began
        yield Result(name, seed, *drive(pilot, episodes), seconds)
        if isinstance(pilot.head, Diffusion | Flow):
            pilot.head.start.drawn = True
            yield Result(f"{name}, drawn noise", seed, *drive(pilot, episodes), seconds)


def by_head(found: list[dict[str, Any]], seeds: int) -> str:
    """A table with a line for each head: both shares of each seed, and the longest training."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for counts in found:
        lines.setdefault(counts["head"], []).append(counts)
    kinds = {"success": "success", "above": "above the obstacle"}
    header = ("head", *(f"{title}, seed {seed}" for title in kinds.values() for seed in range(seeds)), "training")
    return table(header, [_line(head, done, kinds) for head, done in lines.items()])


def _line(head: str, done: list[dict[str, Any]], kinds: Iterable[str]) -> tuple[str, ...]:
    longest = max(counts["training_s"] for counts in done)
    return head, *(_told(counts[kind]) for kind in kinds for counts in done), f"{longest:.0f} s"


def _told(share: dict[str, Any]) -> str:
    if not share["n"]:
        return "–"
    low, high = share["pc_ci95"]
    return f"{100 * share['count'] / share['n']:.1f} % [{low:.0f}, {high:.0f}]"


def main(
    hardware: str,
    seeds: int = 3,
    steps: int = 800,
    episodes: int = 300,
    demonstrations: int = 10_000,
    report: Path = RESULTS,
) -> None:
    """Train and judge every head; prints what each training came to, and writes a table with a picture of the ways.

    Args:
        hardware: as it shall stand in the files' names.
        seeds: trainings of each head.
        steps: updates of each training.
        episodes: new scenes of each evaluation.
        demonstrations: episodes of the training data.
        report: folder of the results.
    """
    torch.set_num_threads(1)
    done, found = [], []
    for result in results(seeds, steps, episodes, demonstrations):
        done.append(result)
        found.append(result.counts)
        print(result.name, result.seed, _told(found[-1]["success"]), _told(found[-1]["above"]), sep="  ", flush=True)
    picture = report / f"multimodal_{hardware.replace(' ', '-')}_{date.today().isoformat()}.png"
    draw([demonstrated(), *(result for result in done if result.seed == 0)], picture)
    settings = {"seeds": seeds, "steps": steps, "episodes": episodes, "demonstrations": demonstrations}
    about = (
        f"{demonstrations:,} demonstrations (seed 0), {steps:,} updates for each of {seeds} training seeds (from 0), "
        f"judged in the same {episodes:,} new scenes (seed 1); one thread. Success is the share of these scenes, above "
        "the obstacle the share of the successes, both with 95 % Wilson intervals over the scenes of one training. "
        "Training is the longest one's time."
    )
    seen = f"![The ways of each head with seed 0, relative to the obstacle]({picture.name})"
    text = "\n\n".join((about, by_head(found, seeds), READING, seen))
    data = {"settings": settings, "threads": 1, "results": found}
    publish("multimodal", "Two ways around an obstacle", hardware, text, data, report)


def demonstrated(count: int = 100) -> Result:
    """A few demonstrations in the form of a result, for the picture."""
    seen = demonstrate(count).seen.unflatten(0, (count, STEPS))
    return Result("demonstrations", 0, _beside(seen[:, :, 0], seen[:, 0]), torch.ones(count, dtype=torch.bool), 0.0)


def draw(results: list[Result], path: Path, shown: int = 60) -> None:
    """A small picture for each: the first ways, relative to the obstacle; failures are red."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(12, 5.2), layout="constrained")
    axes = figure.subplots(2, math.ceil(len(results) / 2), sharex=True, sharey=True).flatten()
    for axis, result in zip(axes, results, strict=False):
        axis.add_patch(Circle((0.5, 0), RADIUS, color="0.8"))
        for way, good in zip(result.ways[:shown], result.success, strict=False):
            axis.plot(*way.T, color="tab:blue" if good else "tab:red", alpha=0.35, linewidth=0.9)
        axis.plot(1, 0, "k+")
        axis.set(xlim=(-0.05, 1.1), ylim=(-0.5, 0.5), aspect="equal")
        share = "" if result.seconds == 0 else f": {100 * result.success.float().mean():.0f} %"
        axis.set_title(f"{result.name}{share}", fontsize=10)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    tyro.cli(main)
