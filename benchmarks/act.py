"""LeRobot's ACT at its default size and plait's Meta-World policy at its own: speed of training and of prediction.

    pip install lerobot==0.6.1   # Python 3.12
    python benchmarks/act.py --hardware "one H100"

Both get tensors of the same shapes that lie on the device already, so that only the models are compared: one camera, a
state and an action of four numbers, chunks of 16 (LeRobot's default for ACT is 100). ACT has 52 M parameters and no
words. Neither has pretrained weights. All ways are measured in turns in one process; the table has the median of the
rounds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import tyro
from publish import RESULTS, publish, table

from plait import envs
from plait.data.world import ALONE
from plait.diagnose.cost import parameters, timed
from plait.encoders.tokenizer import Tokenizer
from plait.envs.metaworld.tasks import INSTRUCTIONS
from plait.nn.device import pick_autocast, pick_device
from plait.nn.replay import WARM_UP, Replay
from plait.policy import Policy
from plait.recipes import RECIPES
from plait.train.loop import update_weights
from plait.train.state import TrainState
from plait.types import Batch, Observation

ENTRIES, CAMERA = 4, "corner2"
UPDATES = {  # of plait
    "plait, eager": {"cuda_graph": False, "compile": False},
    "plait": {"cuda_graph": True, "compile": False},
    "plait, compiled": {"cuda_graph": True, "compile": True},
}
Way = Callable[[], Any]


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    hardware: str
    """As it shall stand in the results file and its name."""
    image_size: int | None = None
    """Pixels; the recipe's when left out."""
    batch_sizes: tuple[int, ...] = (8, 64, 512)
    """Samples per update; 8 is ACT's usual number."""
    updates: int = 10
    """Of each round."""
    rounds: int = 5
    report: Path = field(default=RESULTS)
    """Folder of the results file."""


def main(options: Options) -> None:
    """Measure, print and write."""
    device, rows, found = pick_device("auto"), [], {}
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as lerobot's own training sets them
    size = options.image_size or RECIPES["metaworld-mt50"]().policy.image_size
    for batch_size in options.batch_sizes:
        ways = training_ways(size, batch_size, device)
        rates = {name: batch_size / seconds for name, seconds in _in_turns(ways, options, device).items()}
        base = rates["ACT, as it comes"]
        rows += [(batch_size, name, f"{rate:,.0f}", f"{rate / base:.2f}") for name, rate in rates.items()]
        print(*rows[-len(rates) :], sep="\n", flush=True)  # large batches take minutes
        found[f"training, batch {batch_size}"] = rates
    speed = table(("samples per update", "training", "samples/s", "times ACT, as it comes"), rows)
    latencies = {name: sorted(timed(call, device)) for name, call in prediction_ways(size, device).items()}
    found["latency_ms"] = {name: [median(ms), ms[round(0.99 * (len(ms) - 1))]] for name, ms in latencies.items()}
    base = found["latency_ms"]["ACT, as it comes"][0]
    lines = [
        (name, f"{p50:.3f}", f"{p99:.3f}", f"{base / p50:.2f}") for name, (p50, p99) in found["latency_ms"].items()
    ]
    latency = table(("one prediction for one robot", "p50, ms", "p99, ms", "times as fast as ACT, as it comes"), lines)
    sizes = {"ACT": parameters(_act(size, device)), "plait": parameters(_policy(size, device))}
    told = ", ".join(f"{name} {count / 1e6:.1f} M parameters" for name, count in sizes.items())
    told += f", chunks of {RECIPES['metaworld-mt50']().policy.action_horizon} (LeRobot's default for ACT is 100)"
    text = f"{size} x {size} pixels; {told}.\n\n{speed}\n\n{latency}"
    print(text)
    publish("act", "ACT and plait", options.hardware, text, {**found, "parameters": sizes}, options.report)


def training_ways(size: int, batch_size: int, device: torch.device) -> dict[str, Way]:
    """Each call is one update."""
    ways: dict[str, Way] = {
        "ACT, as it comes": _act_update(size, batch_size, device, "float32"),
        "ACT, autocast to bfloat16": _act_update(size, batch_size, device, "bfloat16"),
    }
    for name, how in UPDATES.items():
        if device.type == "cuda" or not how["cuda_graph"]:
            ways[name] = _plait_update(size, batch_size, device, **how)
    return ways


def prediction_ways(size: int, device: torch.device) -> dict[str, Way]:
    """Each call is one prediction for one robot."""
    act, picture = _act(size, device).eval(), torch.rand(1, 3, size, size, device=device)
    seen = {f"observation.images.{CAMERA}": picture, "observation.state": torch.zeros(1, ENTRIES, device=device)}
    policy = _policy(size, device).eval()
    inputs = _inputs(policy, 1, size).to(device)
    ways: dict[str, Way] = {
        "ACT, as it comes": lambda: act.predict_action_chunk(seen),
        "ACT, autocast to bfloat16": partial(_predict, act.predict_action_chunk, seen, device),
    }
    calls = {"plait, eager": policy}
    if device.type == "cuda":
        calls |= {"plait, CUDA graph": Replay(policy), "plait, compiled, CUDA graph": Replay(torch.compile(policy))}
    ways |= {name: partial(_predict, call, inputs, device) for name, call in calls.items()}
    for call in ways.values():
        for _ in range(WARM_UP + 1):
            call()
    return ways


def _predict(call: Callable[[Any], Any], inputs: Any, device: torch.device) -> None:
    with torch.inference_mode(), pick_autocast("auto", device):
        call(inputs)


def _in_turns(ways: dict[str, Way], options: Options, device: torch.device) -> dict[str, float]:
    """Seconds of one call, the median of the rounds."""
    for call in ways.values():
        for _ in range(WARM_UP + 2):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, call in ways.items():
            _wait(device)
            began = time.perf_counter()
            for _ in range(options.updates):
                call()
            _wait(device)
            seconds[name].append((time.perf_counter() - began) / options.updates)
    return {name: median(values) for name, values in seconds.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _act(size: int, device: torch.device) -> Any:
    from lerobot.configs import FeatureType, PolicyFeature  # pyright: ignore[reportMissingImports]
    from lerobot.policies.act.configuration_act import ACTConfig  # pyright: ignore[reportMissingImports]
    from lerobot.policies.act.modeling_act import ACTPolicy  # pyright: ignore[reportMissingImports]

    horizon = RECIPES["metaworld-mt50"]().policy.action_horizon
    config = ACTConfig(
        input_features={
            f"observation.images.{CAMERA}": PolicyFeature(FeatureType.VISUAL, (3, size, size)),
            "observation.state": PolicyFeature(FeatureType.STATE, (ENTRIES,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ENTRIES,))},
        pretrained_backbone_weights=None,
        chunk_size=horizon,
        n_action_steps=horizon,
        device=device.type,
    )
    return ACTPolicy(config).to(device)


def _act_update(size: int, batch_size: int, device: torch.device, precision: str) -> Way:
    act = _act(size, device).train()
    optimizer = torch.optim.AdamW(act.get_optim_params(), lr=act.config.optimizer_lr)
    horizon = act.config.chunk_size
    batch = {
        f"observation.images.{CAMERA}": torch.rand(batch_size, 3, size, size, device=device),
        "observation.state": torch.randn(batch_size, ENTRIES, device=device),
        "action": torch.randn(batch_size, horizon, ENTRIES, device=device),
        "action_is_pad": torch.zeros(batch_size, horizon, dtype=torch.bool, device=device),
    }

    def update() -> None:
        with pick_autocast(precision, device):
            loss, _ = act.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(act.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return update


def _policy(size: int, device: torch.device) -> Policy:
    env: Any = envs.make("metaworld", cameras=CAMERA, size=size).unwrapped
    config = replace(RECIPES["metaworld-mt50"]().policy, image_size=size)
    return config.build(env.embodiment, Tokenizer.build(list(INSTRUCTIONS.values()))).to(device)


def _inputs(policy: Policy, rows: int, size: int) -> Any:
    picture = torch.randint(256, (rows, size, size, 3), dtype=torch.uint8)
    return policy.prepare(Observation({CAMERA: picture}, torch.randn(rows, ENTRIES), ["Reach a goal position"] * rows))


def _plait_update(size: int, batch_size: int, device: torch.device, cuda_graph: bool, compile: bool) -> Way:
    policy = _policy(size, device)
    config = replace(RECIPES["metaworld-mt50"]().train, cuda_graph=cuda_graph, compile=compile)
    state = TrainState.start(policy.to(memory_format=torch.channels_last), config)
    action = torch.randn(batch_size, policy.horizon, ENTRIES)
    mask = torch.ones(batch_size, policy.horizon, dtype=torch.bool)
    batch = Batch(_inputs(policy, batch_size, size), action, mask).to(device)
    update: Any = partial(update_weights, state, config.clip_norm, pick_autocast("auto", device), ALONE)
    return partial(Replay(update) if config.cuda_graph else update, batch)


if __name__ == "__main__":
    main(tyro.cli(Options))
