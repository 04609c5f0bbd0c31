"""The contract of every part: one policy per member of each union with default neighbours, and random combinations.

All of them meet all checks of a policy, with one exception: of the random combinations every tenth is exported, and
none compiled, which would take longer than everything else here. Every part compiles on its own, and so does a policy
with each memory. What is asked of a fusion alone (any groups, a robot without cameras or state) is asked of each with
default neighbours.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.checkpoint import load, save
from plait.config import members
from plait.fusion import BottleneckConfig, FilmConfig, Fusion, UnifiedConfig
from plait.heads import DiscreteConfig
from plait.policy import Policy
from plait.spec import INSTRUCTION, STATE, camera_modality
from plait.types import Inputs, Shape, Tokens
from policies import COMBINATIONS, EXPORTED, SINGLE, SPEC, part, random_batch, random_observation, small_policy

LACKS = {FilmConfig: INSTRUCTION, BottleneckConfig: INSTRUCTION}  # what a fusion would be meaningless without
FUSIONS = {name: part("fusion", name) for name in members(Fusion, "fusion")}
FUSIONS |= {"action tokens": UnifiedConfig(actions=8)}
FRONT, WRIST = map(camera_modality, SPEC.cameras)
SUBSETS = [
    *((STATE, INSTRUCTION), (FRONT,), (FRONT, WRIST), (FRONT, STATE), (FRONT, WRIST, STATE)),
    *((FRONT, INSTRUCTION), (FRONT, WRIST, STATE, INSTRUCTION), (STATE,), (INSTRUCTION,)),
]
TOKENS: dict[str, dict[str, Any]] = {  # the one form of a part that needs a neighbour of its own
    "head=tokens": {"fusion": UnifiedConfig(actions=8), "head": DiscreteConfig(form="tokens")}
}
POLICIES = SINGLE | TOKENS | COMBINATIONS


@pytest.fixture(scope="module", params=POLICIES, ids=str)
def policy(request: pytest.FixtureRequest) -> Policy:
    return small_policy(**POLICIES[request.param])


def _with(inputs: Inputs, **changes: Any) -> Inputs:
    return replace(inputs, **changes)


def _first_row_absent(inputs: Inputs, *modalities: str) -> dict[str, Any]:
    return inputs.present | {modality: torch.arange(len(inputs.words)) > 0 for modality in modalities}


def test_a_chunk_of_the_promised_shape(policy: Policy) -> None:
    chunk = policy.predict(policy.prepare(random_observation(rows=3)))
    assert chunk.shape == (3, policy.horizon, 7) and chunk.isfinite().all()


def test_padding_changes_nothing_not_even_nan(policy: Policy) -> None:
    inputs = policy.prepare(random_observation())
    garbage = torch.where(inputs.word_mask, inputs.words, 3)
    torch.testing.assert_close(policy.predict(_with(inputs, words=garbage)), policy.predict(inputs))
    used = inputs.word_mask.any(dim=0)
    assert not used.all()
    less = _with(inputs, words=inputs.words[:, used], word_mask=inputs.word_mask[:, used])
    torch.testing.assert_close(policy.predict(less), policy.predict(inputs))

    groups = policy.encoder(inputs)
    poisoned = {n: Tokens(t.data.masked_fill(~t.mask[..., None], torch.nan), t.mask, t.grid) for n, t in groups.items()}
    assert any(t.data.isnan().any() for t in poisoned.values())
    clean, dirty = policy.fusion(groups).tokens, policy.fusion(poisoned).tokens
    torch.testing.assert_close(dirty.cleaned(), clean.cleaned())
    clean = policy.remember(policy.fusion(groups), inputs)
    poisoned_head = Tokens(clean.data.masked_fill(~clean.mask[..., None], torch.nan), clean.mask)
    torch.testing.assert_close(policy.head.act(poisoned_head), policy.head.act(clean))


def test_a_missing_modality_is_an_ordinary_input_and_leaves_other_rows_alone(policy: Policy) -> None:
    inputs = policy.prepare(random_observation())
    whole = policy.predict(inputs)
    for modality in policy.spec.modalities:
        present = inputs.present | {modality: torch.tensor([False, True, True])}
        state = inputs.state.clone()
        state[0] = torch.nan if modality == "state" else state[0]
        partial = policy.predict(_with(inputs, present=present, state=state))
        assert partial.isfinite().all(), modality
        torch.testing.assert_close(partial[1:], whole[1:])
        assert not torch.allclose(partial[0], whole[0], atol=1e-6), f"{modality} has no influence"
    nothing = {modality: torch.zeros(3, dtype=torch.bool) for modality in policy.spec.modalities}
    assert policy.predict(_with(inputs, present=nothing)).isfinite().all()


def test_what_an_absent_modality_holds_has_no_influence_on_the_gradient(policy: Policy) -> None:
    batch = random_batch(policy)
    state = batch.inputs.state.clone()
    state[0] = torch.nan
    inputs = _with(batch.inputs, state=state, present=_first_row_absent(batch.inputs, "state"))
    policy.zero_grad()
    policy.loss(replace(batch, inputs=inputs))["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in policy.parameters())


def test_gradient_reaches_every_input_and_every_parameter(policy: Policy) -> None:
    batch = random_batch(policy)
    absent = _first_row_absent(batch.inputs, *policy.spec.modalities)
    policy.zero_grad()
    for present in (batch.inputs.present, absent):  # the absent tokens learn where something is absent
        loss = policy.loss(replace(batch, inputs=_with(batch.inputs, present=present)))["loss"]
        assert loss.isfinite()
        loss.backward()
    silent = [n for n, p in policy.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent

    groups = {
        name: Tokens(t.data.detach().requires_grad_(), t.mask, t.grid)
        for name, t in policy.encoder(batch.inputs).items()
    }
    policy.head.loss(policy.remember(policy.fusion(groups), batch.inputs), batch.action, batch.action_mask).backward()
    assert all(tokens.data.grad.any() for tokens in groups.values())


def test_what_the_fusion_reads_is_given_on_request_only(policy: Policy) -> None:
    inputs = policy.prepare(random_observation())
    with torch.no_grad():
        quiet, reading = policy.fuse(inputs), policy.fuse(inputs, reads=True)
    assert not quiet.reads
    torch.testing.assert_close(reading.tokens.data, quiet.tokens.data)


def test_saved_and_loaded_it_acts_the_same(policy: Policy, tmp_path: Any) -> None:
    loaded = load(save(policy, tmp_path / "checkpoint"))
    inputs = policy.prepare(random_observation())
    assert torch.equal(loaded.predict(loaded.prepare(random_observation())), policy.predict(inputs))
    assert loaded.config == policy.config and loaded.spec == policy.spec


@pytest.mark.parametrize("fusion", members(Fusion).values(), ids=members(Fusion))
def test_a_fusion_of_nothing_is_refused_before_it_is_built(fusion: Any) -> None:
    with pytest.raises(ValueError, match=r"\.width: 0 is too small; at least 1"):
        fusion(width=0)


@pytest.fixture(scope="module")
def encoded() -> tuple[dict[str, Shape], dict[str, Tokens]]:
    """Groups of two cameras, the state and the words."""
    policy = small_policy()
    found = policy.encoder(policy.prepare(random_observation()))
    return policy.encoder.shapes, {n: Tokens(t.data.detach(), t.mask, t.grid) for n, t in found.items()}


@pytest.mark.parametrize("config", FUSIONS.values(), ids=FUSIONS)
@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_a_fusion_learns_from_any_groups_or_says_what_it_lacks(
    config: Any, names: tuple[str, ...], encoded: tuple[dict[str, Shape], dict[str, Tokens]]
) -> None:
    shapes = {name: encoded[0][name] for name in names}
    groups = {n: Tokens(t.data.clone().requires_grad_(), t.mask, t.grid) for n, t in encoded[1].items() if n in names}
    lacks = LACKS.get(type(config))
    if lacks and lacks not in names:
        with pytest.raises(ValueError, match=rf"no .*{lacks}.* use another fusion"):
            config.build(shapes)
        return
    module = config.build(shapes)
    fused = module(groups, reads=True)
    assert fused.tokens.data.shape[1:] == (module.shape.n, module.shape.dim) and fused.tokens.data.isfinite().all()
    some = (fused.tokens.data * torch.randn_like(fused.tokens.data)).sum()
    torch.stack([some, *fused.losses.values()]).sum().backward()
    assert all(tokens.data.grad is not None and tokens.data.grad.any() for tokens in groups.values())
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("fusion", members(Fusion, "fusion"))
@pytest.mark.parametrize("lacks", ["cameras", "state"])
def test_a_robot_without_cameras_or_without_a_state_trains_and_acts(fusion: str, lacks: str) -> None:
    spec = replace(SPEC, cameras={}) if lacks == "cameras" else replace(SPEC, state=())
    policy = small_policy(spec=spec, fusion=part("fusion", fusion))
    policy.zero_grad()
    policy.loss(random_batch(policy))["loss"].backward()
    assert any(p.grad is not None and p.grad.any() for p in policy.fusion.parameters())
    assert policy.predict(policy.prepare(random_observation(spec=spec))).isfinite().all()


def test_every_part_compiles_in_one_graph_and_exports_and_some_combinations_export() -> None:
    # in a process of its own, because the compiler cannot trace the shape checks that tests install
    result = subprocess.run([sys.executable, Path(__file__).with_name("capture.py")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    some = ["fusion=actions", "head=causal", "head=drawn", "memory=gru", *EXPORTED]
    assert result.stdout.split() == ["policy", *SINGLE, *some]
