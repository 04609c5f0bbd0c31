"""The balance of the modalities: shares that tell what is used, measured without changing anything."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from balance import CONFIG, train
from plait.memory import RecurrentConfig
from plait.nn.device import pick_autocast
from plait.policy import Policy
from plait.spec import INSTRUCTION, STATE
from plait.train.config import TrainConfig
from plait.train.imbalance import GRADIENT, PREDICTION, exchanged, measure
from plait.train.modulation import Modulation
from plait.train.tracker import read_log
from plait.types import Batch
from policies import SPEC, random_batch, small_policy

AUTOCAST = pick_autocast("float32", torch.device("cpu"))


def shares(policy: Policy, batch: Batch) -> dict[str, float]:
    return dict(measure(policy, batch, AUTOCAST))


@pytest.mark.parametrize("memory", [None, RecurrentConfig(steps=3)], ids=str)
def test_the_shares_of_all_modalities_sum_to_one(memory: RecurrentConfig | None) -> None:
    policy = small_policy(memory=memory).train()
    measured = shares(policy, random_batch(policy, rows=4))
    for kind in (GRADIENT, PREDICTION):
        values = {name.removeprefix(kind): share for name, share in measured.items() if name.startswith(kind)}
        assert set(values) == set(SPEC.modalities)
        assert sum(values.values()) == pytest.approx(1) and min(values.values()) > 0


def test_what_is_not_looked_at_has_no_share() -> None:
    policy = small_policy(keyframe=None)
    torch.nn.init.zeros_(policy.fusion.others[STATE].weight)
    batch = random_batch(policy, rows=8)
    assert shares(policy, batch)[GRADIENT + STATE] < 1e-6 < 0.01 < shares(policy, batch)[GRADIENT + INSTRUCTION]
    with torch.no_grad():  # everything that is used is used rightly: without it, the loss rises
        right = replace(batch, action=policy(batch.inputs))
    measured = shares(policy, right)
    assert measured[PREDICTION + STATE] < 1e-4 < 0.01 < measured[PREDICTION + "images.front"]


def test_as_long_as_nothing_matters_all_have_the_same_share() -> None:
    policy = small_policy(keyframe=None)
    torch.nn.init.zeros_(policy.head.layers[1].weight)
    measured = shares(policy, random_batch(policy, rows=8))
    assert [measured[PREDICTION + name] for name in SPEC.modalities] == pytest.approx([0.25] * 4)


def test_measuring_changes_nothing() -> None:
    policy = small_policy().train()
    batch = random_batch(policy)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    first = shares(policy, batch)
    assert policy.training and policy.fusion.training and not policy.encoder._forward_hooks
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert shares(policy, batch) == first


def test_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    watched, plain = train(tmp_path / "a", CONFIG), train(tmp_path / "b", replace(CONFIG, imbalance_every=0))
    assert all(map(torch.equal, watched.model.state_dict().values(), plain.model.state_dict().values()))
    assert not any("imbalance" in name for row in read_log(tmp_path / "b") for name in row)


def test_each_measurement_stands_beside_the_losses_of_its_step(tmp_path: Path) -> None:
    train(tmp_path, CONFIG)  # reported every 3 steps, measured every 2
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows if GRADIENT + STATE in row] == [2, 4, 6]
    assert [row["step"] for row in rows if PREDICTION + INSTRUCTION in row] == [2, 4, 6]


def test_one_modality_is_exchanged_and_windows_stay_whole() -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3))
    inputs = random_batch(policy, rows=4).inputs
    inputs.present[STATE][:3] = False
    other = exchanged(inputs, STATE, 6)
    assert torch.equal(other.state[6:9], inputs.state[:3]) and not other.present[STATE][6:9].any()
    assert torch.equal(other.words, inputs.words) and torch.equal(other.images["front"], inputs.images["front"])
    assert torch.equal(exchanged(inputs, "images.front", 6).images["front"][6:9], inputs.images["front"][:3])
    assert torch.equal(exchanged(inputs, INSTRUCTION, 1).words[1], inputs.words[0])


def test_a_model_without_modalities_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Model is no policy with two modalities or more.*; set it to 0"):
        tiny.train(tmp_path, replace(tiny.CONFIG, imbalance_every=2))


def test_modulation_without_measurements_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.imbalance_every: 0 is too small; at least 1 with modulation"):
        TrainConfig(modulation=Modulation(strength=0.5))
