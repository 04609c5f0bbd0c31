"""What ``plait calibrate`` says."""

import numpy as np

from plait import checkpoint
from plait.cli import main
from plait.data.episode import Episode
from plait.data.writer import DatasetWriter
from policies import SPEC, small_policy


def test_without_rollouts_it_says_that_closed_loop_has_more_false_alarms(tmp_path, capsys):
    rng, writer = np.random.default_rng(0), DatasetWriter(tmp_path / "dataset", SPEC)
    for _ in range(18):
        images = {camera: rng.integers(0, 256, (2, 32, 32, 3), np.uint8) for camera in SPEC.cameras}
        state, action = rng.normal(size=(2, 2, 8)).astype(np.float32)
        writer.append(Episode(images, state, action[:, :7], "pick up the red ball"))
    writer.finalize()
    saved = checkpoint.save(small_policy(), tmp_path / "c")
    assert main(["calibrate", str(saved), str(writer.path), "--false-alarms", "0.1"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.endswith(" of 5 further demonstrations had an alarm")
    assert second == "in closed loop, expect more false alarms; with --rollouts 800, about the share that is asked for"
    assert third == f"kept in {saved}/safety.json"
