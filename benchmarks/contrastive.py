"""Time and memory of the contrastive loss that never holds the matrix of all similarities.

    python benchmarks/contrastive.py --hardware H100

Beside it, in the same process on the same embeddings: the plain loss, and `ClipLoss` of open_clip where that is
installed (`pip install open_clip_torch`). Measured is forward and backward, from embeddings in float32, under autocast
to bfloat16 where the processor has it, as in training. All must give the same loss and the same gradients, within
rounding.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
import tyro
from publish import RESULTS, publish, table
from torch import Tensor
from torch.nn.functional import normalize

from plait.alignment.contrastive import InfoNCE
from plait.alignment.infonce import TILE, info_nce
from plait.diagnose.cost import WARM_UP, peak_bytes, timed
from plait.nn.device import has_bfloat16, pick_autocast, pick_device

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
READING = (
    "Median time and peak memory, gradients included, of one forward and backward pass over a batch of pairs of width "
    "{width}, in {format}; tiles of {tile}. Every line is from the same process; – did not fit in memory."
)


@dataclass(frozen=True)
class Result:
    """None: it did not fit in memory."""

    loss: str
    pairs: int
    ms: float | None
    peak_bytes: int | None


def plain(vision: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    logits = scale * vision @ text.T
    return (InfoNCE.one_way(logits) + InfoNCE.one_way(logits.T)) / 2


def losses(tile: int | None) -> dict[str, Loss]:
    """In the order of the table's columns."""
    lean = partial(info_nce, tile=tile)
    try:
        from open_clip.loss import ClipLoss  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        print(f"without open_clip ({error}); pip install open_clip_torch adds its loss to the table")
        return {"plain": plain, "lean": lean}
    return {"plain": plain, "open_clip": ClipLoss(cache_labels=True), "lean": lean}


def pairs(n: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of unit length that agree somewhat, as in the middle of a training, and the scale."""
    generator = torch.Generator(device).manual_seed(0)
    vision, noise = (torch.randn(n, width, device=device, generator=generator) for _ in range(2))
    rows = normalize(vision, dim=1), normalize(vision + 3 * noise, dim=1)
    vision, text, scale = (each.requires_grad_() for each in (*rows, torch.tensor(1 / 0.07, device=device)))
    return vision, text, scale


def step(loss: Loss, inputs: tuple[Tensor, ...], autocast: torch.autocast) -> list[Tensor]:
    with autocast:
        value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def run(loss: Loss, inputs: tuple[Tensor, ...], device: torch.device) -> tuple[list[Tensor], float, int] | None:
    """Loss and gradients, milliseconds, and peak memory; None when it does not fit."""
    call = partial(step, loss, inputs, pick_autocast("auto", device))
    try:
        for _ in range(WARM_UP):
            call()
        return call(), median(timed(call, device)), peak_bytes(call, device)
    except torch.OutOfMemoryError:
        return None


def check(found: list[Tensor], expected: list[Tensor], tolerance: float, what: str) -> None:
    for name, mine, theirs in zip(("loss", "vision", "text", "scale"), found, expected, strict=True):
        error = ((mine - theirs).norm() / theirs.norm()).item()
        assert error < tolerance, f"{what}: {name} differs by {error:.2g} of its size"


def compare(losses: dict[str, Loss], n: int, width: int, device: torch.device) -> list[Result]:
    inputs, first, results = pairs(n, width, device), None, []
    for name, loss in losses.items():
        if (ran := run(loss, inputs, device)) is not None:
            found, ms, peak = ran
            first = first or found
            check(found, first, 0.02 if has_bfloat16(device) else 1e-4, f"{name}, {n} pairs")
            results.append(Result(name, n, ms, peak))
        else:
            results.append(Result(name, n, None, None))
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return results


def row(results: list[Result]) -> list[str]:
    """The others' figures, and those of the lean loss with their ratio to the plain one's."""
    by_name = {result.loss: result for result in results}
    plain, lean = by_name["plain"], by_name["lean"]
    cells = [cell for result in results for cell in _cells(result)]
    if plain.ms and plain.peak_bytes and lean.ms and lean.peak_bytes:
        ratios = [f"{lean.ms / plain.ms:.2f}x", f"{lean.peak_bytes / plain.peak_bytes:.2f}x"]
    else:
        ratios = ["–", "–"]
    return [f"{results[0].pairs:,}", *cells, *ratios]


def _cells(result: Result) -> list[str]:
    if result.ms is None or result.peak_bytes is None:
        return ["–", "–"]
    return [f"{result.ms:.1f} ms", f"{result.peak_bytes / 2**20:,.0f} MiB"]


def main(
    hardware: str,
    device: str = "auto",
    sizes: tuple[int, ...] = (4096, 8192, 16384, 32768, 65536, 131072),
    width: int = 512,
    tile: int | None = None,
    report: Path = RESULTS,
) -> None:
    """Measure; prints a table and writes it.

    Args:
        hardware: as it shall stand in the file's name.
        device: cpu, cuda, ...
        sizes: pairs in a batch.
        width: of the embeddings.
        tile: rows and columns that the lean loss computes at once, and pairs up to which it is the plain one; its own
            numbers when omitted.
        report: folder of the results file.
    """
    place, measured, results = pick_device(device), losses(tile), []
    for n in sizes:
        results.append(compare(measured, n, width, place))
        print(*row(results[-1]), sep="  ", flush=True)
    header = [
        "pairs",
        *(f"{name}{what}" for name in measured for what in ("", ", memory")),
        "time, lean/plain",
        "memory",
    ]
    about = READING.format(width=width, tile=tile or TILE, format="bfloat16" if has_bfloat16(place) else "float32")
    data = {
        "width": width,
        "tile": tile,
        "bfloat16": has_bfloat16(place),
        "results": [asdict(r) for rs in results for r in rs],
    }
    text = f"{about}\n\n{table(header, map(row, results))}"
    publish("contrastive", "InfoNCE without the matrix of similarities", hardware, text, data, report)


if __name__ == "__main__":
    tyro.cli(main)
