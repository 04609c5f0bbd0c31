"""``plait compare --cost``: what each fusion costs by itself, on tokens of the sizes that large encoders give."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from rich.table import Table

from plait.config import members
from plait.diagnose.cost import Cost, cost_cells, measure, random_tokens
from plait.fusion import Fusion
from plait.nn.device import pick_autocast, pick_device
from plait.progress import Bar
from plait.spec import INSTRUCTION, camera_modality
from plait.types import Shape

WIDTH = 768  # of the tokens
SIZES: dict[str, dict[str, Shape]] = {
    "1 camera x 196 patches, 20 words": {
        camera_modality("front"): Shape(196, WIDTH, (14, 14)),
        INSTRUCTION: Shape(20, WIDTH),
    },
    "4 cameras x 256 patches, 64 words": {
        **{camera_modality(name): Shape(256, WIDTH, (16, 16)) for name in ("front", "left", "right", "wrist")},
        INSTRUCTION: Shape(64, WIDTH),
    },
}
Costs = dict[str, dict[str, Cost]]  # by size and fusion


def fusion_costs(fusions: Iterable[str], device: str = "auto", rows: int = 1) -> Costs:
    """Each fusion with its default settings, one forward pass without gradients.

    Args:
        fusions: names.
        device: cpu, cuda, ...; auto takes the GPU when there is one, and then computes in bfloat16.
        rows: moments in one call; 1 is one robot.
    """
    place, names = pick_device(device), list(fusions)
    with Bar("measuring", len(names) * len(SIZES), "fusions") as bar:
        found: Costs = {}
        for size, groups in SIZES.items():
            found[size] = {}
            for name in names:
                found[size][name] = _cost(name, groups, place, rows)
                bar.advance()
    return found


def _cost(name: str, groups: dict[str, Shape], device: torch.device, rows: int) -> Cost:
    module = members(Fusion, "fusion")[name]().build(groups).to(device).eval()
    tokens, autocast = random_tokens(groups, rows, device), pick_autocast("auto", device)

    @torch.inference_mode()
    def call() -> Any:
        with autocast:
            return module(tokens)

    return measure(module, call, device)


def cost_tables(costs: Costs) -> list[Table]:
    """One for each size."""
    tables = []
    for size, rows in costs.items():
        table = Table(title=f"{size}, width {WIDTH}", title_justify="left", box=None, pad_edge=False)
        table.add_column("fusion")
        for heading in ("parameters", "GFLOPs", "p50", "p99", "peak memory"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, cost in sorted(rows.items(), key=lambda row: row[1].flops):
            table.add_row(name, *cost_cells(cost))
        tables.append(table)
    return tables


def as_json(costs: Costs) -> dict[str, Any]:
    return {size: {name: asdict(cost) for name, cost in rows.items()} for size, rows in costs.items()}
