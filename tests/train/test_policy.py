"""From a dataset to a trained policy."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import plait
from plait import checkpoint
from plait.cli.calibrate import missing
from plait.data.lerobot import Dataset
from plait.files import locked
from plait.fusion import LateConfig
from plait.memory import Memory, MemoryAttentionConfig, RecurrentConfig
from plait.recipes import RECIPES
from plait.safety.calibrate import usual
from plait.safety.calibration import Calibration, Score
from plait.safety.envelope import Envelope
from plait.train.policy import train
from plait.types import Observation

DATASET = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_images"


@pytest.mark.parametrize("memory", [RecurrentConfig(steps=3), MemoryAttentionConfig(steps=3)], ids=str)
def test_a_policy_with_memory_trains_and_resumes_exactly(tmp_path: Path, memory: Memory) -> None:
    recipe, dataset = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d")
    policy = replace(recipe.policy, image_size=16, memory=memory)
    config = replace(recipe.train, steps=4, batch_size=8, checkpoint_every=2, warmup_steps=1, modality_dropout=0.2)
    whole = train(policy, config, dataset, tmp_path / "whole")
    shutil.rmtree(shutil.copytree(whole, tmp_path / "run") / "checkpoints/00000004")
    resumed, straight = (plait.load(train(policy, config, dataset, tmp_path / name)) for name in ("run", "whole"))
    assert resumed.config.memory == memory and resumed.moments == 3
    assert all(map(torch.equal, resumed.state_dict().values(), straight.state_dict().values()))
    before = dict(plait.load(whole / "checkpoints/00000002").memory.named_parameters())
    assert all(not torch.equal(value, before[name]) for name, value in straight.memory.named_parameters())


def test_a_trained_policy_knows_the_ranges_of_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, dataset = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d")
    policy = replace(recipe.policy, image_size=16)
    config = replace(recipe.train, steps=4, batch_size=8, checkpoint_every=2, warmup_steps=1)
    run, data = train(policy, config, dataset, tmp_path / "run"), Dataset.open(dataset)
    first, second = (run / "checkpoints" / name for name in ("00000002", "00000004"))
    trained = plait.load(run)
    known = Calibration.find(run, trained)
    assert known == usual(trained, data, checkpoint.provenance(run)) == Calibration.load(first, trained)
    assert known.droppable and known.known.grain and not known.scores
    told = missing("runs/x", known)
    assert told and "it knows the states, actions and noise of the training, and what else is unusual passes" in told

    images = {camera: data.images(camera, [5]).numpy() for camera in data.spec.cameras}
    for x, faults in ((14.0, {}), (19.0, {"state": "x is 19; training saw 0 to 14"})):
        robot = Envelope(replace(trained.spec, action_kind="delta"), calibration=known)
        robot.judge(Observation(images, np.array([[x, 1.0, 0.5]], np.float32), data.tasks[:1]), 0.0)
        assert robot.faults == faults

    scores = {"state": Score(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 1.0)}
    calibrated = replace(known, known=replace(known.known, grain={"top": 9.0}), scores=scores, report={"alarms": 0})
    calibrated.save(first)
    shutil.rmtree(second)
    monkeypatch.delattr("plait.train.policy.usual")  # nothing is measured again
    train(policy, config, dataset, run)
    assert Calibration.load(first, trained).scores.keys() == scores.keys()
    assert Calibration.load(second, trained) == replace(calibrated, scores={})


def test_the_moments_of_a_window_are_execute_steps_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, dataset, sources = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d"), []
    monkeypatch.setattr("plait.train.policy.fit", lambda model, source, *_: sources.append(source))
    policy = replace(recipe.policy, image_size=16, execute=3)
    config = replace(recipe.train, batch_size=8, modality_dropout=0.0)
    for memory in (None, RecurrentConfig(steps=5)):
        train(replace(policy, memory=memory), config, dataset, tmp_path / str(memory is None))
    assert [(source.moments, source.stride) for source in sources] == [(1, 3), (5, 3)]


def test_a_second_training_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    recipe, dataset = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d")
    with locked(tmp_path / "run"), pytest.raises(ValueError, match="run: another process is writing here"):
        train(replace(recipe.policy, image_size=16), recipe.train, dataset, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_batch_that_is_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    recipe, dataset = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d")
    config = replace(recipe.train, batch_size=22)  # an episode of 15 is held out of 36 frames
    with pytest.raises(ValueError, match=r"train\.batch_size = 22: it must be at most .* here 21; say --train\.batch"):
        train(replace(recipe.policy, image_size=16), config, dataset, tmp_path / "run")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_finished_run_that_is_damaged_is_not_finished(tmp_path: Path, name: str) -> None:
    recipe, dataset = RECIPES["tabletop-pick"](), shutil.copytree(DATASET, tmp_path / "d")
    policy = replace(recipe.policy, image_size=16)
    config = replace(recipe.train, steps=2, batch_size=8, warmup_steps=1)
    run = train(policy, config, dataset, tmp_path / "run")
    assert train(policy, config, dataset, run) == run
    (run / "checkpoints/00000002" / name).unlink()
    with pytest.raises(ValueError, match=r"00000002 is damaged .*; delete it to go on from the one before"):
        train(policy, config, dataset, run)


@dataclass(frozen=True)
class HomemadeConfig(LateConfig):
    """Not a member of the union of fusions, so that no checkpoint with it could be loaded."""


def test_a_part_that_plait_does_not_know_is_refused_before_the_training(tmp_path: Path) -> None:
    recipe = RECIPES["tabletop-pick"]()
    with pytest.raises(ValueError, match="fusion: no part 'homemade'"):
        train(replace(recipe.policy, fusion=HomemadeConfig()), recipe.train, DATASET, tmp_path / "run")
    assert not (tmp_path / "run").exists()
