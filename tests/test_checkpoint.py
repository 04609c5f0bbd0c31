import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import plait
from plait.checkpoint import CHECKPOINTS, CONFIG, MODEL, WITHOUT, fingerprint, save
from plait.fusion import BottleneckConfig, UnifiedConfig
from policies import random_observation, small_policy


def test_the_newest_checkpoint_of_a_run_is_taken(tmp_path: Path) -> None:
    for step, seed in (("000010", 1), ("000200", 2)):
        save(small_policy(seed), tmp_path / CHECKPOINTS / step)
    (tmp_path / CHECKPOINTS / ".000300.1.tmp").mkdir()  # what a kill in the middle of a save leaves
    (tmp_path / CHECKPOINTS / "000300").mkdir()
    loaded, newest = plait.load(tmp_path), small_policy(2)
    inputs = newest.prepare(random_observation())
    assert torch.equal(loaded.predict(inputs), newest.predict(inputs))


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save(small_policy(1), tmp_path / "c")
    before = fingerprint(tmp_path / "c")

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save(small_policy(2), tmp_path / "c", extra=full)
    assert fingerprint(tmp_path / "c") == before and [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr("os.fsync", lambda descriptor: flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    save(small_policy(), tmp_path / "c", extra=lambda folder: (folder / "more.json").touch())
    assert {path.name for path in flushed} == {path.name for path in (tmp_path / "c").iterdir()}
    assert {path.parent.name for path in flushed} == {f".c.{os.getpid()}.tmp"}


def test_bad_checkpoints_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; give a folder"):
        plait.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds neither config"):
        plait.load(tmp_path)

    folder = save(small_policy(), tmp_path / "c")
    config = json.loads((folder / CONFIG).read_text())

    def rewrite(**changes: object) -> None:
        (folder / CONFIG).write_text(json.dumps(config | changes))

    rewrite(format_version=99)
    with pytest.raises(ValueError, match="format version 99, this plait reads up to 1; upgrade"):
        plait.load(folder)
    rewrite(policy=config["policy"] | {"fusion": {"type": "cros_attention"}})
    with pytest.raises(ValueError, match="Did you mean 'cross_attention'"):
        plait.load(folder)
    rewrite(policy=config["policy"] | {"action_horizon": 6})
    with pytest.raises(ValueError, match=r"does not fit config\.json: \d tensors differ"):
        plait.load(folder)
    rewrite()
    (folder / MODEL).write_bytes(b"not a model")
    with pytest.raises(ValueError, match="missing or damaged"):
        plait.load(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="is not a plait config"):
        plait.load(folder)


@pytest.mark.parametrize("fusion", [UnifiedConfig(stages=()), BottleneckConfig(stages=(), where=False)], ids=str)
def test_a_checkpoint_from_before_a_fusion_had_a_setting_loads(tmp_path: Path, fusion: Any) -> None:
    policy = small_policy(fusion=fusion)
    save(policy, tmp_path / "c")
    told = json.loads((tmp_path / "c" / CONFIG).read_text())
    for later in WITHOUT[told["policy"]["fusion"]["type"]]:
        del told["policy"]["fusion"][later]
    (tmp_path / "c" / CONFIG).write_text(json.dumps(told))
    inputs = policy.prepare(random_observation())
    assert torch.equal(plait.load(tmp_path / "c").predict(inputs), policy.predict(inputs))
