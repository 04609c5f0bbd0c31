"""``plait serve``: a policy behind a websocket, for robots."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from plait.cli.calibrate import missing
from plait.cli.parse import Verb, texts

if TYPE_CHECKING:
    from plait.policy import Policy
    from plait.safety.calibration import Calibration
    from plait.safety.envelope import Envelope
    from plait.serve.server import Server

API_KEY = "PLAIT_API_KEY"


@dataclass(frozen=True)
class Serve(Verb):
    """Serve a policy to robots over a websocket that speaks openpi's protocol."""

    checkpoint: Positional[str]
    """A checkpoint, or the folder of a run (its newest checkpoint is taken)."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine alone when left out, everybody who can reach it with 0.0.0.0."""
    port: int = 8000
    """0 takes one that is free."""
    api_key: str | None = None
    """What clients must send; left out, the environment variable PLAIT_API_KEY, if it is set."""
    certificate: str | None = None
    """File (PEM) for TLS; needs --private-key."""
    private_key: str | None = None
    """File (PEM) for TLS; needs --certificate."""
    keys: Annotated[tuple[str, ...], arg(metavar="KEY=CAMERA ...")] = ()
    """What your client calls a camera, where the tables do not have it, such as observation/image=overhead."""
    safety: str | None = None
    """File (JSON) with settings of the safety envelope, such as {"hold_after": 2, "limits": {"max_speed": 0.2}}."""
    envelope: bool = True
    """Judge what arrives and limit what leaves; --no-envelope sends what the policy says, whatever it saw."""
    audit: str | None = None
    """File (JSON lines) that gets each change of a robot's safety mode."""
    keep_memory: bool = False
    """A new instruction does not begin a new episode for the policy's memory."""
    compile: bool = False
    """Compile the policy first: half a minute to two more to start, on a GPU faster answers. Needs a C++ compiler."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format in which the policy multiplies: bfloat16 is faster on most GPUs, evaluations have float32."""
    batch: int = 16
    """Robots that are computed together at most."""
    budget_ms: float = 2.0
    """How long an observation waits for those of other robots."""
    deadline_ms: float = 0.0
    """An answer that takes longer counts as a miss; 0: one control step."""
    silence_ms: float = 0.0
    """A client that sends nothing for so long is silent, and its robot holds; 0: a chunk's length and 10 steps more."""
    sessions: int = 256
    """Connections at once."""
    message_bytes: int = 16 * 2**20
    """The largest message, such as 33554432 for three cameras of 1920 x 1080."""
    rate_limit: float = 1000.0
    """Messages a second of one connection."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto = cuda when there is one."""

    def run(self) -> None:
        import torch

        from plait import checkpoint
        from plait.nn.device import pick_device
        from plait.safety.calibration import Calibration
        from plait.serve.batching import Hung
        from plait.serve.server import ServeConfig, Server

        config = ServeConfig(
            host=self.host,
            port=self.port,
            api_key=self._key(),
            certificate=self.certificate,
            private_key=self.private_key,
            keys=texts(self.keys, "--keys", "KEY=CAMERA"),
            reset_on_instruction=not self.keep_memory,
            compile=self.compile,
            precision=self.precision,
            batch=self.batch,
            budget_ms=self.budget_ms,
            deadline_ms=self.deadline_ms,
            silence_ms=self.silence_ms,
            sessions=self.sessions,
            message_bytes=self.message_bytes,
            rate_limit=self.rate_limit,
        )
        found = checkpoint.find(self.checkpoint)
        policy = checkpoint.load(found).to(pick_device(self.device))
        calibration = Calibration.find(found, policy) if self.envelope else None
        envelope = self._envelope(policy, calibration) if calibration else None
        told = missing(self.checkpoint, calibration) if calibration else None
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))  # one is for the connections
        try:
            server = Server(policy, config, envelope, {"checkpoint": checkpoint.fingerprint(found)})
            asyncio.run(_serve(server, told))
        except Hung as error:
            print(f"plait: {error}", file=sys.stderr, flush=True)
            os._exit(1)  # an ordinary end would wait for the thread that does not return

    def _key(self) -> str | None:
        from plait.serve.server import refuse_key

        name, key = (API_KEY, os.environ.get(API_KEY)) if self.api_key is None else ("--api-key", self.api_key)
        refuse_key(name, key)
        return key

    def _envelope(self, policy: "Policy", calibration: "Calibration") -> "Callable[[], Envelope]":
        """Makes the envelope of each robot."""
        from plait.config import from_dict
        from plait.safety.audit import Audit
        from plait.safety.envelope import Envelope, SafetyConfig

        settings = SafetyConfig() if self.safety is None else from_dict(SafetyConfig, _settings(Path(self.safety)))
        audit = None if self.audit is None else Audit(self.audit)
        return lambda: Envelope(policy.spec, settings, calibration, audit)


def _settings(file: Path) -> Any:
    twice: list[str] = []

    def settled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return dict(pairs)

    try:
        settings = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=settled)
    except ValueError as error:
        raise ValueError(f"--safety {file}: not valid JSON ({error})") from error
    if twice:
        raise ValueError(f"--safety {file}: {twice[0]!r} is set more than once; leave one of them")
    return settings


async def _serve(server: "Server", told: str | None) -> None:
    """``told``: what else there is to say when it serves."""
    async with server:
        print(greeting(server), *([f"  {told}"] if told else []), sep="\n", flush=True)
        await server.until_signal()
    print("plait serve: stopped", flush=True)


def greeting(server: "Server") -> str:
    """Where it listens and how to talk to it."""
    config, policy = server.config, server.policy
    scheme, web = ("wss", "https") if config.certificate else ("ws", "http")
    listens = f"[{config.host}]" if ":" in config.host else config.host
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]"}.get(listens, listens)
    key = ', api_key="..."' if config.api_key else ""
    where = f'"{host}", {server.port}' if scheme == "ws" else f'"wss://{host}", {server.port}'
    rows = [
        f"serving at {scheme}://{listens}:{server.port} on {policy.device.type}; "
        f"health: {web}://{host}:{server.port}/healthz, numbers: /metrics; Ctrl-C stops",
        "  from plait.serve.client import Client  # or openpi_client.websocket_client_policy.WebsocketClientPolicy",
        f"  reply = Client({where}{key}).infer({example(server)})",
        f"  run the first {policy.config.execute} of reply['actions'] [{policy.horizon}, {len(policy.spec.actions)}], "
        "then ask again",
    ]
    if config.host not in ("127.0.0.1", "localhost", "::1") and config.api_key is None:
        rows.append(
            f"  anybody who can reach {config.host} may command the robot: set {API_KEY} to have a key asked for"
        )
    return "\n".join(rows)


def example(server: "Server") -> str:
    """An observation that the policy takes."""
    names = server.metadata["keys"]
    keys = names.get("libero") or next(iter(names.values()))
    parts = [f'"{key}": {camera}' for camera, key in keys["cameras"].items()]
    parts += [f'"{key}": state' for key in keys["state"]]
    return "{" + ", ".join([*parts, '"prompt": "..."']) + "}"
