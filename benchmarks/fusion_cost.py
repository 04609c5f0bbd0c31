"""What attention costs here, against the textbook's way of writing it.

    python benchmarks/fusion_cost.py --hardware H100

The textbook: ``nn.MultiheadAttention``, which returns the attention weights unless told not to; and the same with
``need_weights=False``. Every other layer is the same, the parameters too, so all give the same result within rounding,
which is checked before anything is timed. Measured is forward and backward of

    cross-attention     vision attends to words and words to vision, post-norm, width 768, 8 heads
    joint transformer   6 post-norm layers over all tokens, width 768, 12 heads
    policy              the whole policy with cross-attention (64-pixel images), all of it as plait trains it

at the size of one camera (196 patches, 20 words) and of four (1024 patches, 64 words). A ratio above 1 says that plait
needs less. On a GPU each is timed as a CUDA graph, as the recipes train: what launching the kernels one by one costs
instead is a matter of the processor and of what else it does (the JSON has those times as well, ``eager_ms``).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from publish import RESULTS, publish, table
from torch import Tensor, nn

from plait.diagnose.cost import Cost, measure, timed
from plait.encoders.tokenizer import Tokenizer
from plait.fusion.cross_attention import CrossAttentionConfig, CrossModalAttention
from plait.fusion.unified import TransformerBlock
from plait.nn.attention import Attention
from plait.nn.device import has_bfloat16, pick_autocast, pick_device
from plait.nn.replay import WARM_UP, Replay
from plait.policy import PolicyConfig
from plait.spec import Spec
from plait.types import Batch, Observation

READING = (
    "Time (median, the best of three turns) and peak memory of plait; then the textbook's divided by plait's: "
    "`nn.MultiheadAttention` that returns its weights, and with `need_weights=False`."
)
SIZES = {"196 patches, 20 words": (196, 20), "1024 patches, 64 words": (1024, 64)}
WIDTH = 768
SEED = 0  # of parameters and inputs
TURNS = 3  # of each model, one after the other: what else the machine does meets them all
SENTENCE = "pick up the red ball on the left of the green cube"
HEADINGS = ("what", "size", "plait", "memory", "time, weights", "memory, weights", "time, without", "memory, without")


class Textbook(nn.Module):
    """``nn.MultiheadAttention`` with the weights of an ``Attention``, and its call."""

    def __init__(self, attention: Attention, need_weights: bool):
        super().__init__()
        width = attention.query.in_features
        self.attention, self.need_weights = (
            nn.MultiheadAttention(width, attention.heads, batch_first=True, device=attention.query.weight.device),
            need_weights,
        )
        with torch.no_grad():
            for name in ("weight", "bias"):
                parts = getattr(attention.query, name), getattr(attention.key_value, name)
                getattr(self.attention, f"in_proj_{name}").copy_(torch.cat(parts))
                getattr(self.attention.out_proj, name).copy_(getattr(attention.output, name))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, context, context, key_padding_mask=~mask, need_weights=self.need_weights)[0]


def textbook(model: nn.Module, need_weights: bool) -> nn.Module:
    """A copy in which every attention is the textbook's."""
    model = deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Attention):
                setattr(module, name, Textbook(child, need_weights))
    return model


class Joint(nn.Module):
    """Six layers over all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerBlock(WIDTH, 12) for _ in range(6))

    def forward(self, vision: Tensor, text: Tensor) -> Tensor:
        x = torch.cat([vision, text], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x


@dataclass(frozen=True)
class Case:
    """``loss(model)`` is what is measured, forward and backward."""

    what: str
    size: str
    model: nn.Module
    loss: Callable[[nn.Module], Tensor]


def cases(rows: int, policy_rows: int, device: torch.device) -> list[Case]:
    found = []
    for size, (patches, words) in SIZES.items():
        vision, text = (torch.randn(rows, n, WIDTH, device=device) for n in (patches, words))
        loss = partial(_weighed, vision=vision, text=text)
        found.append(Case("cross-attention", size, CrossModalAttention(WIDTH, 8), loss))
        found.append(Case("joint transformer", size, Joint(), loss))
    model, batch = policy(policy_rows)
    batch = batch.to(device)
    size = f"2 cameras x 256 patches, {policy_rows} rows"
    return [*found, Case("policy", size, model, partial(_policy_loss, batch=batch))]


def _weighed(model: Any, vision: Tensor, text: Tensor) -> Tensor:
    """A number to which every entry of the output counts with its own weight. (Its mean square would be 1 whatever
    attention does: a norm comes last.)
    """
    outputs = model(vision, text)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.stack([(output.float() * _weights(output.shape, output.device)).mean() for output in outputs]).sum()


@cache
def _weights(shape: torch.Size, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)


def _policy_loss(model: Any, batch: Batch) -> Tensor:
    return model.loss(batch)["loss"]


def policy(rows: int) -> tuple[nn.Module, Batch]:
    spec = Spec({"front": (64, 64), "wrist": (64, 64)}, ("x", "y", "z"), ("x", "y", "z", "gripper"))
    model = PolicyConfig(fusion=CrossAttentionConfig(), keyframe=None).build(spec, Tokenizer.build([SENTENCE]))
    images = {camera: torch.randint(0, 256, (rows, 64, 64, 3), dtype=torch.uint8) for camera in spec.cameras}
    inputs = model.prepare(Observation(images, torch.randn(rows, 3), [SENTENCE] * rows))
    mask = torch.ones(rows, model.horizon, dtype=torch.bool)
    return model, Batch(inputs, torch.randn(rows, model.horizon, 4), mask)


def compare(case: Case, device: torch.device) -> tuple[dict[str, Cost], dict[str, float]]:
    """Of plait, of the textbook with its weights, and of the textbook without them; and the median times of each called
    eagerly."""
    model = case.model.to(device).train()
    models = {"plait": model, "weights": textbook(model, True), "without": textbook(model, False)}
    losses = {name: case.loss(each).item() for name, each in models.items()}  # float32: the same within rounding
    for name, value in losses.items():
        assert abs(value - losses["plait"]) <= 1e-4 * abs(value), f"{case.what}, {case.size}: {name} differs: {losses}"
    steps = {name: _step(each, case, device) for name, each in models.items()}
    costs = {name: measure(models[name], step, device) for name, step in steps.items()}
    calls = {name: _as_trained(step, device) for name, step in steps.items()}
    turns = [{name: median(timed(call, device)) for name, call in calls.items()} for _ in range(TURNS)]
    best = {name: replace(cost, p50_ms=min(turn[name] for turn in turns)) for name, cost in costs.items()}
    return best, {name: cost.p50_ms for name, cost in costs.items()}


def _step(model: nn.Module, case: Case, device: torch.device) -> Callable[[], None]:
    autocast = pick_autocast("auto", device)

    def step() -> None:
        with autocast:
            loss = case.loss(model)
        loss.backward()
        model.zero_grad()

    return step


def _as_trained(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    if device.type != "cuda":
        return step
    graph = Replay(lambda _: step())
    for _ in range(WARM_UP + 1):
        graph(())
    return partial(graph, ())


def row(case: Case, costs: dict[str, Cost]) -> tuple[str, ...]:
    mine = costs["plait"]
    ratios = [
        f"{theirs / ours:.2f}x"
        for name in ("weights", "without")
        for theirs, ours in (
            (costs[name].p50_ms, mine.p50_ms),
            (costs[name].peak_bytes, mine.peak_bytes),
        )
    ]
    return case.what, case.size, f"{mine.p50_ms:.2f} ms", f"{mine.peak_bytes / 2**20:.0f} MiB", *ratios


def main(hardware: str, device: str = "auto", rows: int = 16, policy_rows: int = 128, report: Path = RESULTS) -> None:
    """Measure; prints a table and writes it.

    Args:
        hardware: as it shall stand in the file's name.
        device: cpu, cuda, ...
        rows: moments in a batch of tokens.
        policy_rows: samples in a batch of the policy.
        report: folder of the results file.
    """
    torch.manual_seed(SEED)
    place, found, rows_found = pick_device(device), [], []
    for case in cases(rows, policy_rows, place):
        costs, eager = compare(case, place)
        rows_found.append(row(case, costs))
        print(*rows_found[-1], sep="  ", flush=True)
        each = {name: asdict(cost) for name, cost in costs.items()}
        found.append({"what": case.what, "size": case.size, "costs": each, "eager_ms": eager})
    text = table(HEADINGS, rows_found)
    drawn = f"Parameters and inputs are random, with seed {SEED}."
    about = f"Forward and backward of a batch of {rows}. {READING} {drawn}"
    data = {"seed": SEED, "rows": rows, "policy_rows": policy_rows, "bfloat16": has_bfloat16(place), "results": found}
    publish("fusion_cost", "Attention against the textbook", hardware, f"{about}\n\n{text}", data, report)


if __name__ == "__main__":
    tyro.cli(main)
