"""Hostile messages at the codec, and at a server with other sessions running: what came of them.

python benchmarks/fuzz.py --hardware "2 CPU cores"

Messages are mutations of real observations (tests/mutations.py). It ends with an error when anything but a refusal or
an answer comes back, when the server ends, or when one of four other sessions gets an answer that is not the bare
policy's, or that comes later than the chunk lasts.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from publish import RESULTS, publish, table

SCRIPT = Path(__file__).parents[1] / "tests/fuzzing.py"


@dataclass(frozen=True)
class Options:
    """How many messages."""

    hardware: str = "2 CPU cores"
    """As it shall stand in the results file and its name."""
    codec: int = 1_000_000
    server: int = 100_000
    seed: int = 0
    report: Path = field(default=RESULTS)
    """Folder of the results file."""


def main(options: Options) -> None:
    """Fuzz, print and write."""
    codec = fuzzed("codec", options)
    server = fuzzed("server", options)
    healthy = server["healthy_sessions"]
    rows = [
        (
            "codec",
            codec["messages"],
            f"{codec['seconds']:.0f}",
            codec["taken"],
            codec["refused"],
            codec["oversized"],
            0,
            flat(codec),
        ),
        (
            "server",
            server["messages"],
            f"{server['seconds']:.0f}",
            server["answered"],
            server["refused"] + server.get("closed", 0) + server["garbage"],
            server["oversized"],
            0,
            flat(server),
        ),
    ]
    memory = "memory (MiB) at the start, half-way, at the end"
    header = ("", "messages", "seconds", "taken", "refused or no message", "too large", "crashes", memory)
    text = (
        f"{table(header, rows)}\n\n{len(healthy['answers'])} other sessions got {sum(healthy['answers'])} answers "
        f"meanwhile (the least {min(healthy['answers'])}), {healthy['wrong']} of them wrong; the slowest took "
        f"{healthy['slowest_ms']} ms. The codec's peak of memory grew by {codec['peak_grown_mib']} MiB. Here a message "
        f"may have {codec['message_bytes']} bytes (the default is 16 MiB). Seed {options.seed}."
    )
    print(text)
    publish("fuzz", "Hostile messages", options.hardware, text, {"codec": codec, "server": server}, options.report)


def flat(measured: dict[str, Any]) -> str:
    """Memory does not grow with the messages."""
    return ", ".join(map(str, measured["memory_mib"]))


def fuzzed(what: str, options: Options) -> dict[str, Any]:
    """What the script beside the tests tells."""
    command = [sys.executable, str(SCRIPT), f"--{what}", str(getattr(options, what)), "--seed", str(options.seed)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)[what]


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
