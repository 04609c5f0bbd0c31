"""Holding back: only a dominant modality, only as far as told, and resumed exactly."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from math import tanh
from pathlib import Path

import pytest
import torch

import tiny
from balance import CONFIG, Source, train
from plait.config import members
from plait.fusion import Fusion
from plait.spec import INSTRUCTION, STATE
from plait.train.imbalance import PACE
from plait.train.modulation import Modulation, add_noise, divide, hold_back, owners
from plait.train.optim import build_optimizer
from plait.train.state import TrainState
from plait.train.tracker import read_log
from plait.types import Batch
from policies import SPEC, part, random_batch, small_policy

ALWAYS = Modulation(strength=0.5, threshold=1.0, until=1.0)  # there is always a largest share


def paces(folder: Path) -> list[list[float]]:
    """Of every modality, at each measurement of a run."""
    return [[row[PACE + name] for name in SPEC.modalities] for row in read_log(folder) if PACE + STATE in row]


def test_only_a_dominant_modality_is_held_back() -> None:
    modulation = Modulation(strength=0.5, threshold=4.0)
    assert modulation.paces({"images.front": 0.1, STATE: 0.85, INSTRUCTION: 0.05}) == {STATE: 1 - tanh(0.5 * 8.5)}
    assert modulation.paces({"images.front": 0.2, STATE: 0.75, INSTRUCTION: 0.05}) == {}
    assert modulation.paces({"images.front": 0.5, STATE: 0.5}) == {}


@pytest.mark.parametrize("fusion", members(Fusion))
def test_every_modality_owns_its_encoder_and_none_the_head(fusion: str) -> None:
    policy = small_policy(fusion=part("fusion", fusion))
    owner = {name: owners(policy).get(parameter) for name, parameter in policy.named_parameters()}
    for prefix, modality in {"cameras.wrist": "images.wrist", "language": INSTRUCTION, "state": STATE}.items():
        mine = {name for name in owner if name.startswith(f"encoder.{prefix}.")}
        assert mine and {owner[name] for name in mine} == {modality}
    assert not any(owner[name] for name in owner if name.startswith(("head.", "keyframe.")))
    assert all(
        {name for name in owner if name.startswith("fusion.") and owner[name] == each} for each in SPEC.modalities
    )


@pytest.mark.parametrize("graph", [False, True], ids=["float", "tensor"])
def test_what_is_held_back_moves_less_and_nothing_else_changes(graph: bool) -> None:
    config = replace(CONFIG, modulation=ALWAYS)
    moved = []
    for paces in ({}, {STATE: 0.25}):
        state = TrainState.start(small_policy(), config)
        if graph:  # as on a GPU: the rates are tensors
            for group in state.optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"])
        before = {name: value.detach().clone() for name, value in state.model.named_parameters()}
        hold_back(state.optimizer, paces)
        state.loss(random_batch(state.model))["loss"].backward()
        state.optimizer.step()
        moved.append({name: value.detach() - before[name] for name, value in state.model.named_parameters()})
    for name, way in moved[0].items():
        pace = 0.25 if name.startswith(("encoder.state.", "fusion.others.state.")) else 1.0
        assert torch.allclose(moved[1][name], pace * way, atol=1e-7), name
    assert moved[0]["encoder.state.layers.0.weight"].abs().max() > 1e-4


def test_every_parameter_stays_in_one_group_with_its_decay() -> None:
    policy = small_policy()
    optimizer = build_optimizer(policy, CONFIG)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    divide(optimizer, policy)
    rows = [(id(p), group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]]
    assert len(rows) == len(decays) and dict(rows) == decays


def test_noise_is_as_large_as_the_gradient_and_only_on_what_is_held_back() -> None:
    policy = small_policy()
    optimizer = build_optimizer(policy, CONFIG)
    divide(optimizer, policy, noise=True)
    policy.loss(random_batch(policy))["loss"].backward()
    before = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    torch.manual_seed(0)
    hold_back(optimizer, {STATE: 0.5})
    add_noise(optimizer)
    noise = {name: policy.get_parameter(name).grad - value for name, value in before.items()}
    assert {name for name, value in noise.items() if value.any()} == {
        name for name in noise if name.startswith(("encoder.state.", "fusion.others.state."))
    }
    name = "fusion.others.state.weight"
    assert noise[name].std().item() == pytest.approx(before[name].std().item(), rel=0.1)
    hold_back(optimizer, {})
    add_noise(optimizer)
    assert all(torch.equal(policy.get_parameter(name).grad, before[name] + noise[name]) for name in before)


@pytest.mark.parametrize("modulation", [ALWAYS, replace(ALWAYS, noise=True)], ids=["plain", "noise"])
def test_interrupted_run_resumes_exactly(tmp_path: Path, modulation: Modulation) -> None:
    class Stopped(Source):
        def stream(self, start: int, stop: int) -> Iterator[Batch]:
            for step, batch in enumerate(super().stream(start, stop), start):
                if step == 2:  # saved after step 3, between two measurements
                    os.kill(os.getpid(), signal.SIGINT)
                yield batch

    config = replace(CONFIG, modulation=modulation)
    whole = train(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt, match="step 3 of 6"):
        train(tmp_path / "run", config, Stopped)
    resumed = train(tmp_path / "run", config)
    assert paces(tmp_path / "run") == paces(tmp_path / "whole")
    assert [min(row) < 1 for row in paces(tmp_path / "run")] == [True, True, False]
    assert all(map(torch.equal, resumed.model.state_dict().values(), whole.model.state_dict().values()))
    plain = train(tmp_path / "plain", replace(config, modulation=Modulation()))
    assert not all(map(torch.equal, plain.model.state_dict().values(), whole.model.state_dict().values()))


def test_nothing_is_held_back_after_its_share_of_the_steps(tmp_path: Path) -> None:
    state = train(tmp_path, replace(CONFIG, modulation=replace(ALWAYS, until=0.5)))
    assert [min(row) < 1 for row in paces(tmp_path)] == [True, False, False]  # measured after 2, 4 and 6 of 6 steps
    assert state.paces == {}


def test_balanced_training_is_the_same_with_the_gate_as_without(tmp_path: Path) -> None:
    gated = train(tmp_path / "a", replace(CONFIG, modulation=Modulation(strength=0.5, threshold=1e6)))
    plain = train(tmp_path / "b", CONFIG)
    assert all(map(torch.equal, gated.model.state_dict().values(), plain.model.state_dict().values()))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [("strength", -1.0, "at least 0"), ("threshold", 0.5, "at least 1"), ("until", 2.0, "at most 1")],
)
def test_value_out_of_range(field: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.modulation\.{field}: {value} is too .*{rule}"):
        Modulation(**{field: value})


def test_a_model_without_modalities_is_refused() -> None:
    with pytest.raises(ValueError, match="Model is no policy with two modalities or more"):
        TrainState.start(tiny.Model(), replace(CONFIG, modulation=ALWAYS))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("noise", [False, True])
def test_a_recorded_update_holds_back_as_a_launched_one(tmp_path: Path, noise: bool) -> None:
    config = replace(CONFIG, steps=12, device="cuda", modulation=replace(ALWAYS, noise=noise))
    for name, graph in (("launched", False), ("recorded", True)):
        train(tmp_path / name, replace(config, cuda_graph=graph))
    assert min(map(min, paces(tmp_path / "recorded"))) < 1
    for one, other in zip(read_log(tmp_path / "launched"), read_log(tmp_path / "recorded"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-2)
