"""From a dataset to a trained policy."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import plait
from plait.files import locked
from plait.fusion import LateConfig
from plait.memory import Memory, MemoryAttentionConfig, RecurrentConfig
from plait.recipes import RECIPES
from plait.train.policy import train

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
