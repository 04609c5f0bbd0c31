"""Hostile messages: the codec raises nothing but Malformed, and a server's other sessions get right answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fuzzing import Healthy
from mutations import LIMITS
from plait.safety.envelope import Envelope, SafetyConfig
from policies import SPEC, small_policy
from serving import serving

SCRIPT = Path(__file__).parents[1] / "fuzzing.py"


def fuzzed(*arguments: str) -> dict[str, Any]:
    """What the script tells; it runs in a process of its own, where functions are as fast as they are for a robot."""
    ended = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_the_codec() -> None:
    found = fuzzed("--codec", "20000")["codec"]
    kinds = [found[kind] for kind in ("taken", "refused", "oversized")]
    assert sum(kinds) == 20_000 and min(kinds) > 300
    assert found["peak_grown_mib"] < 50 and len(found["memory_mib"]) == 3


def test_a_server_with_other_sessions() -> None:
    policy = small_policy()
    patient = SafetyConfig(silent_after=600, stale_after=600)  # the machine that runs this may be busy
    with serving(policy, lambda: Envelope(SPEC, patient), silence_ms=60_000, message_bytes=LIMITS.bytes) as server:
        with Healthy(policy, server.port) as robots:
            found = fuzzed("--port", str(server.port), "--server", "2000")
        assert robots.wrong == [] and len(robots.checked) == 4 and min(robots.checked) > 10
        kinds = ("answered", "refused", "oversized", "garbage")
        assert sum(found.values()) == 2000 and min(found[kind] for kind in kinds) > 20
        assert server.metrics.faults["failed"] == 0


def test_a_server_of_its_own_as_make_fuzz_has_it() -> None:
    found = fuzzed("--server", "100")["server"]
    assert found["messages"] == 100 and found["healthy_sessions"]["wrong"] == 0 and found["oversized"] > 0
