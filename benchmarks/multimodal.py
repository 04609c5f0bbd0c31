"""Two equally good ways around an obstacle: which heads take one of them, and which the middle between both?

    python benchmarks/multimodal.py --hardware "2 CPU cores"

A point moves in the plane, 0.05 a step, from the left to a goal on the right; a disc stands halfway. Demonstrations go
around it on a side that a coin chooses, so at the start nothing that is observed tells which. Every head gets the same
small encoder, data and updates. In evaluation it sees its position, the obstacle's and the goal's, predicts a
chunk of 8 steps and executes it: the first chunk decides. One torch thread, under three minutes.
"""

import datetime
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

from plait.evaluate.statistics import wilson
from plait.heads import DiffusionConfig, DiscreteConfig, FlowConfig, Head, MixtureConfig, RegressionConfig
from plait.heads.diffusion import Diffusion
from plait.heads.flow import Flow
from plait.nn.normaliser import Normaliser
from plait.types import HeadPart, Shape, Tokens

RESULTS = Path(__file__).parent / "results"
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
HEADER = """\
| head | success | 95 % interval | of these above the obstacle | training |
|---|---|---|---|---|"""
READING = """\
Reading: at the start both sides are equally right. Regression answers with something between both and drives into the
obstacle, except where a small deviation of the start is enough to tip it. Discrete bins cannot average, but in the
parallel form each step and entry chooses its side on its own, and some chunks mix both; the causal form, the mixture,
diffusion and flow commit to one side as a whole. With fixed noise, the default, diffusion and flow answer the same
scene with the same chunk; with drawn noise (same weights) they use both sides."""


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
    """How one head did: the ways it went, which of them succeeded, and how long an update took."""

    name: str
    ways: Tensor
    success: Tensor
    seconds: float

    @property
    def row(self) -> str:
        good = int(self.success.sum())
        low, high = wilson(good, len(self.success))
        middle = self.ways[:, STEPS // 2, 1]
        above = 100 * (middle[self.success] > 0).float().mean() if good else math.nan
        took = f"{above:.0f} %" if good else "–"
        share = f"{100 * good / len(self.success):.1f} %"
        return f"| {self.name} | {share} | {100 * low:.0f} – {100 * high:.0f} | {took} | {self.seconds:.0f} s |"


def results(steps: int, episodes: int, demonstrations: int) -> Iterator[Result]:
    data = demonstrate(demonstrations)
    for name, config in HEADS.items():
        began = time.perf_counter()
        pilot = train(config, data, steps)
        seconds = time.perf_counter() - began
        yield Result(name, *drive(pilot, episodes), seconds)
        if isinstance(pilot.head, Diffusion | Flow):
            pilot.head.start.drawn = True
            yield Result(f"{name}, drawn noise", *drive(pilot, episodes), seconds)


def main(
    steps: int = 800,
    episodes: int = 300,
    demonstrations: int = 10_000,
    hardware: str = "2 CPU cores",
    out: Path = RESULTS,
) -> None:
    """Train and judge every head; prints a table, and writes it with a picture of the ways.

    Args:
        steps: updates of each head.
        episodes: new scenes of each evaluation.
        demonstrations: episodes of the training data.
        hardware: as it shall stand in the files' names.
        out: folder of the results.
    """
    torch.set_num_threads(1)
    print(HEADER)
    rows = []
    for result in results(steps, episodes, demonstrations):
        print(result.row, flush=True)
        rows.append(result)
    today = datetime.date.today().isoformat()
    path = out / f"multimodal_{hardware.replace(' ', '-')}_{today}.png"
    draw([demonstrated(), *rows], path)
    table = "\n".join([HEADER, *(row.row for row in rows)])
    options = f"--steps {steps} --episodes {episodes} --demonstrations {demonstrations}"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    path.with_suffix(".md").write_text(
        f"# Two ways around an obstacle, {hardware}, {today}\n\n`python benchmarks/multimodal.py {options}` "
        f"(one training seed, 0; evaluated with seed 1; one thread; {versions})\n\n{table}\n\n{READING}\n\n"
        f"![The ways of each head, relative to the obstacle]({path.name})\n",
        encoding="utf-8",
    )


def demonstrated(count: int = 100) -> Result:
    """A few demonstrations in the form of a result, for the picture."""
    seen = demonstrate(count).seen.unflatten(0, (count, STEPS))
    return Result("demonstrations", _beside(seen[:, :, 0], seen[:, 0]), torch.ones(count, dtype=torch.bool), 0.0)


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
