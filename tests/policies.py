"""Small policies and observations that several tests build."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from plait.config import members
from plait.encoders.language import HuggingFaceConfig, Language
from plait.encoders.tokenizer import Tokenizer
from plait.encoders.vision import TimmConfig, Vision
from plait.fusion import Fusion
from plait.heads import DiffusionConfig, FlowConfig, Head
from plait.memory import Memory, MemoryAttentionConfig, RecurrentConfig
from plait.policy import Policy, PolicyConfig
from plait.spec import Spec
from plait.types import Batch, Observation

UNIONS = {"vision": Vision, "language": Language, "fusion": Fusion, "head": Head, "memory": Memory}
TEXT_MODEL = str(Path(__file__).parent / "fixtures/text_model")
# members whose defaults are too slow for a test, or not at hand
SMALL = {
    "timm": TimmConfig("test_vit"),
    "hugging_face": HuggingFaceConfig(TEXT_MODEL),
    "recurrent": RecurrentConfig(steps=3),
    "memory_attention": MemoryAttentionConfig(steps=3),
    "diffusion": DiffusionConfig(steps=3),
    "flow": FlowConfig(steps=3),
}
SENTENCES = ["pick up the red ball", "put the green cube in the bowl", "빨간 공을 집어줘"]
SPEC = Spec(
    cameras={"front": (32, 32), "wrist": (32, 32)},
    state=("x", "y", "z", "rx", "ry", "rz", "finger_left", "finger_right"),
    actions=("x", "y", "z", "rx", "ry", "rz", "gripper"),
    action_kind="delta",
    gripper="positive_closes",
    rate=10.0,
)


def part(field: str, name: str) -> Any:
    """The config of one member of a union, small enough for a test."""
    return SMALL.get(name) or members(UNIONS[field], field)[name]()


# every member of every union once, with default neighbours
SINGLE = {
    f"{field}={name}": {field: part(field, name)} for field, union in UNIONS.items() for name in members(union, field)
}


def _combinations(count: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    rng = random.Random(seed)
    chosen = [{field: rng.choice(sorted(members(union))) for field, union in UNIONS.items()} for _ in range(count)]
    for names in chosen[::2]:
        del names["memory"]
    return {"+".join(names.values()): {field: part(field, name) for field, name in names.items()} for names in chosen}


COMBINATIONS = _combinations(20)
EXPORTED = list(COMBINATIONS)[::10]  # each takes two seconds


def small_policy(seed: int = 0, spec: Spec = SPEC, **config: object) -> Policy:
    """An untrained policy at 32 pixels, in evaluation mode; batch-norm statistics are those of one random batch."""
    torch.manual_seed(seed)
    if isinstance(config.get("vision"), TimmConfig):
        config.setdefault("image_size", 64)
    policy = PolicyConfig(**({"image_size": 32} | config)).build(spec, Tokenizer.build(SENTENCES))
    with torch.no_grad():
        policy.train().loss(random_batch(policy, seed=seed))
    return policy.eval()


def random_observation(rows: int = 3, seed: int = 0, spec: Spec = SPEC, size: int = 32) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    images = {
        camera: torch.randint(0, 256, (rows, size, size, 3), dtype=torch.uint8, generator=generator)
        for camera in spec.cameras
    }
    state = torch.randn(rows, len(spec.state), generator=generator) if spec.state else None
    return Observation(images, state, [SENTENCES[i % len(SENTENCES)] for i in range(rows)])


def random_batch(policy: Policy, rows: int = 3, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed + 1)
    inputs = policy.prepare(random_observation(rows * policy.moments, seed, policy.spec))
    if policy.moments > 1:  # the first row's window is whole, the others begin one moment later
        inputs = replace(inputs, window=torch.arange(policy.moments) >= torch.arange(rows)[:, None].clamp(max=1))
    action = torch.randn(rows, policy.horizon, len(policy.spec.actions), generator=generator)
    mask = torch.arange(policy.horizon) < torch.arange(1, rows + 1)[:, None] * 3
    keyframe, known = torch.randn(rows, 2, 3, generator=generator), torch.tensor([[True, False]] * rows)
    known[0], known[-1] = True, False  # an odd number: two errors of opposite sign leave a bias without gradient
    return Batch(inputs, action, mask, keyframe, known)
