"""What a server costs beside the policy, and what several robots notice of each other.

    python benchmarks/serving.py --hardware "2 CPU cores"
    python benchmarks/serving.py --hardware H100 --recipe metaworld-mt50 --cameras 1 --pixels 160 --rate 20 \
        --loop-rate 500 --loop-ticks 150000

The policy has the recipe's size and random weights, which do not change how long it takes. The server is a process of
its own; the robots are threads of this one, on the same machine. ``plain`` is a minimal server written as openpi's is:
the same codec and the same engine, called on the event loop, one observation after the other, without an envelope.
``echo`` decodes and computes nothing: what the websocket costs alone. They are measured in turns, so that whatever else
the machine does meets all.
"""

import asyncio
import copy
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from publish import RESULTS, publish, table
from websockets.asyncio.server import ServerConnection, serve

import plait
from plait import checkpoint
from plait.config import refuse_small
from plait.encoders.tokenizer import Tokenizer
from plait.nn.device import Precision, pick_device
from plait.policy import Policy
from plait.recipes import RECIPES
from plait.safety.calibration import Calibration
from plait.safety.envelope import Envelope
from plait.serve.batching import Answer, Engine, Question
from plait.serve.client import Client, Late
from plait.serve.codec import pack, unpack
from plait.serve.keys import accepted, agree, observed
from plait.serve.loop import ControlLoop
from plait.serve.server import ServeConfig, Server
from plait.spec import Spec
from plait.types import Observation

ROLES = {
    "plait": "plait serve, with the envelope",
    "plain": "minimal server, inference on the loop",
    "echo": "websocket alone, no policy",
}
TURNS = 20  # of each server with one robot, and one before to warm up
SENTENCE = "pick up the red ball"
SHARES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99, "max": 100.0}


@dataclass(frozen=True)
class Options:
    """What is measured."""

    hardware: str
    """As it shall stand in the results file and its name."""
    recipe: str = "tabletop-pick"
    cameras: Literal[1, 2] = 2
    """Of each robot."""
    pixels: int = 224
    """Of each side of the cameras' pictures, as the robots send them."""
    requests: int = 1000
    """Of one robot that asks again as soon as it has its answer."""
    robots: int = 8
    """0: no server is measured."""
    rate: float = 10.0
    """Observations a second of each robot."""
    ticks: int = 300
    """Observations of each robot."""
    compile: bool = False
    """The servers, and what is called in this process, compile the policy (the control loop does not)."""
    precision: Precision = "float32"
    """In which it multiplies, everywhere."""
    parts: int = 1
    """How often the robots are measured with plait's server, and connect anew; once with the minimal one. So often the
    control loop runs, too."""
    loop_ticks: int = 0
    """Steps of one robot that is driven by a control loop in this process, without a server."""
    loop_rate: float | None = None
    """Its steps a second; left out, as many as the observations."""
    report: Path = field(default=RESULTS)
    """Folder of the results file."""
    role: str = "measure"
    """Set by the script itself."""


def build(options: Options) -> Policy:
    size = (options.pixels, options.pixels)
    spec = Spec(
        cameras={camera: size for camera in ("front", "wrist")[: options.cameras]},
        state=tuple(f"joint_{i}" for i in range(8)),
        actions=("x", "y", "z", "rx", "ry", "rz", "gripper"),
        action_kind="delta",
        rate=options.rate,
    )
    return RECIPES[options.recipe]().policy.build(spec, Tokenizer.build([SENTENCE])).eval()


def observation(options: Options, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    picture = lambda: random.integers(0, 256, (options.pixels, options.pixels, 3), np.uint8)  # noqa: E731
    keys = ("observation/image", "observation/wrist_image")[: options.cameras]
    return {key: picture() for key in keys} | {
        "observation/state": random.normal(size=8).astype(np.float32),
        "prompt": SENTENCE,
    }


async def serve_plait(policy: Policy, options: Options) -> None:
    calibration = Calibration.of(policy, {"train": {"modality_dropout": 0.2}})
    how = {"compile": options.compile, "precision": options.precision, "rate_limit": max(1000.0, 2 * options.rate)}
    config = ServeConfig(port=0, silence_ms=60_000, **how)
    async with Server(policy, config, lambda: Envelope(policy.spec, calibration=calibration)) as server:
        print(server.port, flush=True)
        await server.until_signal()


async def serve_plain(policy: Policy, options: Options) -> None:
    """The minimal server."""
    known, infer = accepted(policy.spec), called(policy, options)

    async def handle(connection: ServerConnection) -> None:
        await connection.send(pack({"execute": policy.config.execute}))
        async for message in connection:
            sent = unpack(message)  # type: ignore[arg-type]
            answer = infer(observed(sent, agree(sent, policy.spec, known), policy.spec))
            await connection.send(pack({"actions": answer.chunk, "policy_timing": {"infer_ms": answer.infer_ms}}))

    await listen(handle)


def called(policy: Policy, options: Options) -> Callable[[Observation], Answer]:
    """The policy as both servers compute it, one robot at a time."""
    engine = Engine(policy, 1, options.compile, options.precision)
    engine.warm_up()

    def infer(observation: Observation) -> Answer:
        answer = engine([Question(observation, policy.start(1), True)])[0]
        assert isinstance(answer, Answer), answer
        return answer

    return infer


async def serve_echo(policy: Policy, _: Options) -> None:
    """An answer as long as the others', to whatever comes."""
    answer = pack({"actions": np.zeros((policy.horizon, len(policy.spec.actions))), "policy_timing": {"infer_ms": 0.0}})

    async def handle(connection: ServerConnection) -> None:
        await connection.send(pack({"execute": policy.config.execute}))
        async for _ in connection:
            await connection.send(answer)

    await listen(handle)


async def listen(handle: Callable[[ServerConnection], Awaitable[None]]) -> None:
    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


class Served:
    """A server in a process of its own.

    Attributes:
        port: where it listens.
    """

    def __init__(self, role: str, options: Options, folder: Path) -> None:
        command = [sys.executable, __file__, "--hardware", str(folder), "--role", role, "--rate", str(options.rate)]
        command += ["--precision", options.precision, "--compile" if options.compile else "--no-compile"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Served":
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        return self

    def cpu_ms(self) -> float:
        """Of all its threads since it began (Linux alone tells it)."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return 1e3 * (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)


def one_robot(options: Options, folder: Path) -> dict[str, dict[str, Any]]:
    """Of each server, asked as fast as it goes: milliseconds of each answer, of the policy in it, and of the CPU."""
    asked = -(-options.requests // TURNS)
    sent = [observation(options, seed) for seed in range(16)]
    found: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
    spent = dict.fromkeys(ROLES, 0.0)
    with ExitStack() as stack:
        served = {role: stack.enter_context(Served(role, options, folder)) for role in ROLES}
        robots = {role: stack.enter_context(Client(port=served[role].port, timeout=60)) for role in ROLES}
        for turn in range(TURNS + 1):
            for role, robot in robots.items():
                before = served[role].cpu_ms()
                times = [answered(robot, sent[i % 16]) for i in range(asked)]
                if turn:
                    found[role] += times
                    spent[role] += served[role].cpu_ms() - before
    told = {}
    for role, times in found.items():
        total, infer = np.array(times).T
        told[role] = {"total": shares(total), "infer": shares(infer), "added": shares(total - infer)}
        told[role]["cpu"] = round(spent[role] / len(times), 3)
    return told


def answered(robot: Client, sent: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds of one answer, and of the policy in it: none in one that came when its actions were over."""
    start, infer_ms = time.perf_counter(), 0.0
    with suppress(Late):
        infer_ms = robot.infer(sent)["policy_timing"]["infer_ms"]
    total = 1e3 * (time.perf_counter() - start)
    time.sleep(0.002)
    return total, infer_ms


def bare(policy: Policy, options: Options) -> np.ndarray:
    """The policy called in this process."""
    known, infer, found = accepted(policy.spec), called(policy, options), []
    sent = [observation(options, seed) for seed in range(16)]
    keys = agree(sent[0], policy.spec, known)
    for i in range(options.requests + 50):
        start = time.perf_counter()
        infer(observed(sent[i % 16], keys, policy.spec))
        found.append(1e3 * (time.perf_counter() - start))
        time.sleep(0.002)
    return np.array(found[50:])


def robots(port: int, options: Options) -> np.ndarray:
    """Milliseconds of each answer, of robots that ask at a fixed rate, each at its own phase."""

    def drive(i: int) -> list[float]:
        found = []
        with Client(port=port, timeout=60) as robot:
            sent = [observation(options, 16 * i + seed) for seed in range(16)]
            for first in sent:  # not measured
                with suppress(Late):
                    robot.infer(first)
            start = time.perf_counter() + 0.5 + i / options.robots / options.rate
            for tick in range(options.ticks):
                due = start + tick / options.rate
                if time.perf_counter() > start + options.ticks / options.rate:  # too slow a server is not waited for
                    break
                time.sleep(max(0.0, due - time.perf_counter()))
                with suppress(Late):  # counts with its time
                    robot.infer(sent[tick % 16])
                found.append(1e3 * (time.perf_counter() - due))  # what the answer before has taken too long counts
        return found

    with ThreadPoolExecutor(options.robots) as pool:
        return np.concatenate(list(pool.map(drive, range(options.robots))))


class Seen:
    """A robot that sees something else at every step, and does not move."""

    def __init__(self, options: Options) -> None:
        self.sent, self.step = [observation(options, seed) for seed in range(16)], 0

    def observe(self) -> dict[str, Any]:
        self.step += 1
        return self.sent[self.step % 16]

    def act(self, action: np.ndarray) -> None:
        pass


def rate_of_loop(options: Options) -> float:
    return options.rate if options.loop_rate is None else options.loop_rate


def looped(policy: Policy, options: Options) -> list[dict[str, Any]]:
    """Reports of a control loop."""
    calibration = Calibration.of(policy, {"train": {"modality_dropout": 0.2}})
    loop = ControlLoop(
        policy, Seen(options), rate=rate_of_loop(options), calibration=calibration, precision=options.precision
    )
    return [asdict(loop.run(options.loop_ticks)) for _ in range(options.parts)]


def shares(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.percentile(values, share)), 3) for name, share in SHARES.items()}


def main(options: Options) -> None:
    """Measure, print and write."""
    refuse_small(requests=(options.requests, 1), robots=(options.robots, 0), ticks=(options.ticks, 1))
    if options.loop_rate is not None and not (options.loop_ticks and 0 < options.loop_rate < math.inf):
        raise ValueError(f"loop_rate: {options.loop_rate} is no rate, or there is no loop; it needs loop_ticks")
    policy = build(options)
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))  # as plait serve has it
    found: dict[str, Any] = {"settings": {k: v for k, v in vars(options).items() if k not in ("report", "role")}}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(policy, Path(folder))
        device = pick_device("auto")
        found["bare"] = shares(bare(copy.deepcopy(policy).to(device), options))
        found["loop"] = looped(policy.to(device), options) if options.loop_ticks else []
        print(found["bare"], *found["loop"], sep="\n", flush=True)  # large numbers of steps take minutes
        del policy
        found["servers"] = servers(options, Path(folder)) if options.robots else {}
    text = told(found, options)
    print(text)
    publish("serving", "Serving", options.hardware, text, found, options.report)


def servers(options: Options, folder: Path) -> dict[str, Any]:
    """Of each what one robot meets, and several."""
    found = one_robot(options, folder)
    for role in ("plait", "plain"):
        parts = found[role]["robots"] = []
        for _ in range(options.parts if role == "plait" else 1):
            with Served(role, options, folder) as served:
                times = robots(served.port, options)
            unasked = options.robots * options.ticks - len(times)
            misses = int((times > 1e3 / options.rate).sum()) + unasked
            parts.append(shares(times) | {"answers": len(times), "misses": misses})
    return found


def told(found: dict[str, Any], options: Options) -> str:
    """Markdown."""
    setting = (
        f"Recipe {options.recipe}, cameras: {options.cameras}, {options.pixels} x {options.pixels} pixels, "
        f"{options.precision}{', compiled' * options.compile}, milliseconds. `added` is what an answer takes beside "
        "the policy: socket, codec, threads, envelope and the robot's side. `CPU` is what the server's process takes "
        "for an answer, the policy included."
    )
    measured = {role: found["servers"][role] for role in ROLES if role in found["servers"]}
    alone = [("policy, called in the process", *list(found["bare"].values())[:3], "", "", "")]
    for role, server in measured.items():
        added = server["added"]
        alone.append((ROLES[role], *list(server["total"].values())[:3], added["p50"], added["p99"], server["cpu"]))
    parts = [
        setting,
        f"One robot, {options.requests} observations one after the other:",
        table(("", "p50", "p99", "p99.9", "added, p50", "added, p99", "CPU"), alone),
    ]
    several = [
        (ROLES[role], part["answers"], part["misses"], *(part[share] for share in SHARES))
        for role, server in measured.items()
        for part in server.get("robots", [])
    ]
    if several:
        parts += [
            f"{options.robots} robots, {options.rate:g} observations a second each, {options.ticks} of each robot. A "
            "miss is an answer later than one step after its observation was due, or an observation that was not sent "
            "in time:",
            table(("", "answers", "misses", *SHARES), several),
        ]
    if found["loop"]:
        names = ("ticks", "achieved", "misses", "starved", "delay")
        rows = [
            (
                *(f"{part[name]:.6g}" for name in names),
                *part["late_ms"].values(),
                *(part["infer_ms"][q] for q in ("p50", "p99")),
            )
            for part in found["loop"]
        ]
        late = [f"late, {share}" for share in found["loop"][0]["late_ms"]]
        parts += [
            "One robot and the policy in one process, `ControlLoop` at "
            f"{rate_of_loop(options):g} steps a second. A miss is an action that left more than one step "
            "too late; starved is a step for which no chunk was ready; delay is how many steps passed at most while a "
            "prediction was made:",
            table((*names, *late, "prediction, p50", "p99"), rows),
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    asked = tyro.cli(Options, description=__doc__)
    if asked.role == "measure":
        main(asked)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
        loaded = plait.load(asked.hardware).to(pick_device("auto"))
        roles = {"plait": serve_plait, "plain": serve_plain, "echo": serve_echo}
        asyncio.run(roles[asked.role](loaded, asked))
