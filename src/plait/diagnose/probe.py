"""What can be read from embeddings by the simplest of models: a linear one, fitted on half of the scenes and tested on
the other half (Alain & Bengio, https://arxiv.org/abs/1610.01644).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plait.evaluate.statistics import share

STRENGTHS = torch.logspace(-4, 4, 17, dtype=torch.double)  # of the ridge, as shares of the mean variance


def probe_label(x: Float[Tensor, "n d"], labels: Sequence[str]) -> dict[str, Any]:
    """How often a linear model tells the label of a scene that it was not fitted on.

    Returns:
        ``correct`` in percent with ``correct_ci95``, ``chance``: that of always saying the label that is most frequent
        where it was fitted, and ``n`` scenes that it was tested on.

    Raises:
        ValueError: fewer than 4 scenes.
    """
    names = sorted(set(labels))
    numbers = torch.tensor([names.index(label) for label in labels])
    fitted, tested = _halves(len(labels))
    guess = _ridge(x, torch.eye(len(names))[numbers])[tested].argmax(dim=1)
    common = numbers[fitted].mode().values
    correct = share((guess == numbers[tested]).tolist(), "correct")
    return {**correct, "chance": round(100 * (numbers[tested] == common).double().mean().item(), 2), "n": len(tested)}


def probe_place(x: Float[Tensor, "n d"], places: Float[Tensor, "n k"]) -> float:
    """The share of the places' variance that a linear model explains in scenes that it was not fitted on (R squared): 1
    is all, 0 is none, and less is possible.

    Raises:
        ValueError: fewer than 4 scenes.
    """
    _, tested = _halves(len(places))
    true = places[tested].double()
    error = (_ridge(x, places)[tested] - true).square().sum()
    return (1 - error / (true - true.mean(dim=0)).square().sum()).item()


def _halves(n: int) -> tuple[Tensor, Tensor]:
    if n < 4:
        raise ValueError(f"probe: {n} scenes cannot be fitted on and tested on; give at least 4")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return order[: n // 2], order[n // 2 :]


def _ridge(x: Float[Tensor, "n d"], y: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Ridge regression fitted on the first half, for all rows. Its strength is the one with the least leave-one-out
    error there.
    """
    fitted, _ = _halves(len(x))
    x, y = x.detach().double().cpu(), y.double()
    centre, spread, mean = x[fitted].mean(dim=0), x[fitted].std(dim=0).clamp(min=1e-9), y[fitted].mean(dim=0)
    x = (x - centre) / spread
    u, s, v = torch.linalg.svd(x[fitted], full_matrices=False)
    ours = u.T @ (y[fitted] - mean)
    errors = []
    for strength in STRENGTHS * s.square().mean():
        shrink = s.square() / (s.square() + strength)
        left_out = 1 - 1 / len(fitted) - (u.square() * shrink).sum(dim=1, keepdim=True)
        rest = y[fitted] - mean - u @ (shrink[:, None] * ours)
        errors.append((rest / left_out.clamp(min=1e-9)).square().mean())
    best = STRENGTHS[torch.stack(errors).argmin()] * s.square().mean()
    return mean + x @ v.T @ ((s / (s.square() + best))[:, None] * ours)
