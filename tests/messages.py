"""Observations as clients send them. Loads no torch."""

from typing import Any

import numpy as np


def message(seed: int = 0, size: int = 32, prompt: str = "pick up the red ball") -> dict[str, Any]:
    """What a LIBERO-style client sends to a policy of ``policies.SPEC``."""
    random = np.random.default_rng(seed)
    return {
        "observation/image": random.integers(0, 256, (size, size, 3), np.uint8),
        "observation/wrist_image": random.integers(0, 256, (size, size, 3), np.uint8),
        "observation/state": random.normal(size=8).astype(np.float32),
        "prompt": prompt,
    }
