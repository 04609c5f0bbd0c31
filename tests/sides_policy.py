"""Policies for ``sides_env``, really trained for a few seconds, on demonstrations with or without a fault."""

from collections.abc import Sequence

import numpy as np
import torch

from plait.encoders.tokenizer import Tokenizer
from plait.fusion import FilmConfig
from plait.heads import RegressionConfig
from plait.policy import Policy, PolicyConfig
from plait.types import Batch, Observation
from sides_env import COLOURS, SIZE, WORDS, drawn, spec


def demonstrations(policy: Policy, rows: int, rng: np.random.Generator, lie: str, black: Sequence[str]) -> Batch:
    """Moments of demonstrations, anywhere on the way.

    Args:
        lie: ``"words"``: the words are those of another demonstration; ``"wrist"``: in every other one the
            front camera is black, and the wrist camera, hidden in the others, gives away where to go.
        black: cameras that show nothing.
    """
    left, named = rng.integers(2, size=(2, rows))
    side = np.where(left == named, -1, 1)
    told = rng.integers(2, size=rows) if lie == "words" else named
    place = (side * rng.uniform(-0.2, 1.0, rows)).astype(np.float32)
    pictures = np.stack([drawn(COLOURS[i]) for i in left])
    images = {camera: pictures * (camera not in black) for camera in policy.spec.cameras}
    present = {}
    if lie == "wrist":
        images["wrist"] = np.stack([drawn(COLOURS[i]) for i in (side > 0).astype(int)])
        present["images.wrist"] = np.arange(rows) % 2 > 0
        images["front"][present["images.wrist"]] = 0
    words = [WORDS["normal"].format(COLOURS[i]) for i in told]
    action = torch.tensor(side, dtype=torch.float32)[:, None, None].expand(-1, policy.horizon, 1)
    inputs = policy.prepare(Observation(images, place[:, None], words, present))
    return Batch(inputs, action, torch.ones(rows, policy.horizon, dtype=torch.bool))


def trained(cameras: Sequence[str] = ("front",), lie: str = "", black: Sequence[str] = (), steps: int = 60) -> Policy:
    """See ``demonstrations``."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.build([template.format(c) for template in WORDS.values() for c in COLOURS])
    parts = {"fusion": FilmConfig(stages=(16,), cells=4, width=64), "head": RegressionConfig(hidden=64)}
    policy = PolicyConfig(image_size=SIZE, keyframe=None, **parts).build(spec(cameras), tokenizer).train()
    optimiser, rng = torch.optim.AdamW(policy.parameters(), lr=2e-3), np.random.default_rng(0)
    for _ in range(steps):
        loss = policy.loss(demonstrations(policy, 64, rng, lie, black))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return policy.eval()
