"""Statistics of one episode, folded one after another into those of the dataset (``meta/stats.json``).

Moments and extremes of the fold are exact. Its quantiles are the episodes' quantiles averaged by length, as in
lerobot; ``Dataset.statistics`` gives exact ones for state and action.
"""

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
Statistics = dict[str, np.ndarray]  # by the names above


def of_vectors(values: np.ndarray) -> Statistics:
    """Per entry, of numbers ``[n]`` or ``[n, d]``; every array has shape ``[d]``, ``count`` has ``[1]``."""
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def of_images(images: np.ndarray, frames: int = 8) -> Statistics:
    """Per channel, in [0, 1], ``[3, 1, 1]``, of uint8 ``[n, h, w, 3]``: from ``frames`` evenly spaced images."""
    picked = images[np.unique(np.linspace(0, len(images) - 1, frames).round().astype(int))]
    pixels = np.ascontiguousarray(picked.reshape(-1, 3).T)
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels])
    cumulative, levels = counts.cumsum(1) / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = (counts * levels).sum(1) / counts.sum(1)
    result = {
        "min": levels[(counts > 0).argmax(1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": np.sqrt((counts * (levels - mean[:, None]) ** 2).sum(1) / counts.sum(1)),
        **{name: levels[(cumulative >= q).argmax(1)] for name, q in QUANTILES.items()},
    }
    shaped = {name: value.reshape(3, 1, 1) for name, value in result.items()} | {"count": np.array([len(picked)])}
    return {name: shaped[name] for name in NAMES}


def fold(total: Statistics | None, new: Statistics) -> Statistics:
    """The statistics of everything seen so far together with one more episode's (Chan et al., 1979)."""
    if total is None:
        return new
    n, m = int(total["count"][0]), int(new["count"][0])
    weighted = lambda a, b: (a * n + b * m) / (n + m)  # noqa: E731
    mean = weighted(total["mean"], new["mean"])
    variance = weighted(
        total["std"] ** 2 + (total["mean"] - mean) ** 2,
        new["std"] ** 2 + (new["mean"] - mean) ** 2,
    )
    return {
        "min": np.minimum(total["min"], new["min"]),
        "max": np.maximum(total["max"], new["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([n + m]),
        **{name: weighted(total[name], new[name]) for name in QUANTILES},
    }
