"""The robot of the README and of examples/robot.py: the same lines, which run against a server."""

from pathlib import Path

import pytest

from plait import envs
from plait.safety.calibration import Calibration
from plait.safety.envelope import Envelope
from policies import small_policy
from serving import serving

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
