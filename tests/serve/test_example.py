"""The robot of the README and of examples/robot.py: the same lines, which run against a server."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from messages import message
from plait import envs
from plait.safety.calibration import Calibration
from plait.safety.envelope import Envelope
from plait.serve.client import Client
from policies import small_policy
from serving import client, expected, serving

ROOT = Path(__file__).parents[2]
CODE = (ROOT / "examples/robot.py").read_text(encoding="utf-8").split('"""\n\n')[1]


def test_the_readme_shows_the_example() -> None:
    assert f"```python\n{CODE}```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_covered_camera_changes_the_mode(capsys: pytest.CaptureFixture[str]) -> None:
    spec = envs.make("tabletop").unwrapped.embodiment  # type: ignore[attr-defined]
    policy = small_policy(spec=spec)
    calibration = Calibration.of(policy, {"train": {"modality_dropout": 0.1}})
    with serving(policy, lambda: Envelope(spec, calibration=calibration)) as server:
        assert CODE.count("8000") == 1
        exec(CODE.replace("8000", str(server.port)), {})
    clean, covered = capsys.readouterr().out.split("covered: front; step 0: ")
    assert "degraded" not in clean and "degraded; images.front: black" in covered


def test_a_server_that_is_gone_in_mid_episode_makes_the_robot_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = small_policy(spec=envs.make("tabletop").unwrapped.embodiment)  # type: ignore[attr-defined]
    ask = Client.infer
    with ExitStack() as exit:
        server = exit.enter_context(serving(policy, lambda: Envelope(policy.spec)))

        def infer(robot: Client, observation: dict[str, Any]) -> dict[str, Any]:
            if not observation["observation.images.front"].any():
                exit.close()
            return ask(robot, observation)

        monkeypatch.setattr(Client, "infer", infer)
        exec(CODE.replace("8000", str(server.port)), {})
    clean, covered = capsys.readouterr().out.split("covered: front; step 0: ")
    assert "hold" not in clean and "step 4: hold; the connection to " in covered and "success False" in covered


def test_a_plain_dictionary_is_understood() -> None:
    """The line of docs/serving.md."""
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith('reply = robot.infer({"front": front')]
    policy, sent = small_policy(), message()
    front, wrist, state = (sent[f"observation/{name}"] for name in ("image", "wrist_image", "state"))
    with serving(policy) as server, client(server) as robot:
        names = {"robot": robot, "front": front, "wrist": wrist, "state": state.tolist()}
        exec(line, names)
    np.testing.assert_allclose(names["reply"]["actions"], expected(policy, sent), rtol=1e-4, atol=1e-5)
