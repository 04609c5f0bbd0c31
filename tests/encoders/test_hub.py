import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            "from plait.encoders.hugging_face import HuggingFaceConfig as C; C('a/model').resolve(None)",
            "ValueError: language: no text model 'a/model'",
        ),
        (
            "from plait.encoders.backbone import TimmConfig as C; C('resnet10t', weights='hub').build((64, 64))",
            "ValueError: vision: the hub gave no weights for 'resnet10t'",
        ),
    ],
    ids=["text", "image"],
)
def test_a_hub_out_of_reach_is_told_at_once_and_once(tmp_path: Path, build: str, message: str) -> None:
    script = "import time; time.sleep = lambda seconds: print('waits for', seconds, 's')\n" + build
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    environment.pop("HF_HUB_OFFLINE", None)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert result.stdout == "", "the libraries alone wait between their trials, half a minute in all"
    last = result.stderr.splitlines()[-1]
    assert last.startswith(message) and "the hub is out of reach: " in last
    assert "Retrying" not in result.stderr
