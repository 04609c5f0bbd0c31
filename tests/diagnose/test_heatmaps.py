"""Maps are the weights that were used; where a fusion has none, they point at what the words' action rests on."""

from dataclasses import replace

import pytest
import torch

from plait.config import members
from plait.diagnose.heatmaps import ATTENTION, GRADIENTS, heatmaps
from plait.encoders.vision import TimmConfig
from plait.fusion import CrossAttentionConfig, FilmConfig, Fusion, MultiscaleConfig, UnifiedConfig
from plait.heads import DiffusionConfig, DiscreteConfig
from plait.policy import Policy
from plait.spec import Spec
from plait.types import Inputs
from policies import part, random_observation, small_policy

ATTENTIVE = {"cross_attention", "unified", "hierarchical", "bottleneck", "experts"}


def inputs_of(policy: Policy, count: int = 3) -> Inputs:
    return policy.prepare(random_observation(count, spec=policy.spec))


@pytest.mark.parametrize("name", members(Fusion))
def test_every_fusion_has_maps_over_every_camera(name: str) -> None:
    policy = small_policy(fusion=part("fusion", name))
    found = heatmaps(policy, inputs_of(policy))
    assert found.method == (ATTENTION if name in ATTENTIVE else GRADIENTS)
    assert list(found.maps) == ["front", "wrist"]
    assert all((maps >= 0).all() for maps in found.maps.values())
    whole = sum(maps.sum(dim=(1, 2)) for maps in found.whole().values())
    torch.testing.assert_close(whole, torch.ones(3))


@pytest.mark.parametrize("head", [DiscreteConfig(), DiffusionConfig(steps=2)], ids=["discrete", "diffusion"])
def test_gradients_need_no_head_whose_action_has_one(head: object) -> None:
    policy = small_policy(fusion=FilmConfig(), head=head)
    state = torch.random.get_rng_state()
    found = heatmaps(policy, inputs_of(policy)).maps["front"]
    assert found.std() > 0
    assert torch.equal(found, heatmaps(policy, inputs_of(policy)).maps["front"]), "noise is drawn anew"
    assert torch.equal(state, torch.random.get_rng_state())


def test_attention_is_what_the_forward_pass_used() -> None:
    policy = small_policy(fusion=CrossAttentionConfig(layers=2))
    inputs = inputs_of(policy)
    reads = policy.fuse(inputs, reads=True).reads
    used = torch.stack([reads["vision_to_text.0"], reads["vision_to_text.1"]]).mean(dim=(0, 2)).detach()[1].T
    words = int(inputs.word_mask[1].sum())
    excess = (used - used.mean(dim=1, keepdim=True)).clamp(min=0)[1 : 1 + words]  # before the words comes the state
    excess = excess / excess.sum()
    found = heatmaps(policy, inputs)
    assert found.words.equal(inputs.word_mask)
    torch.testing.assert_close(found.maps["front"][1, :words].flatten(1), excess[:, :64])
    torch.testing.assert_close(found.maps["wrist"][1, :words].flatten(1), excess[:, 64:])
    assert found.maps["wrist"][1, words:].abs().max() == 0


def test_attention_that_is_set_by_hand_points_where_it_must() -> None:
    """One patch looks at the words, every other one at the state."""
    policy = small_policy(fusion=CrossAttentionConfig(layers=1))
    layer, embed = policy.fusion.layers[0].vision_to_text, policy.fusion.embed.embed
    place = embed["images_front"].places[8 * 2 + 5]  # third row, sixth column
    with torch.no_grad():
        for camera in ("images_front", "images_wrist"):
            embed[camera].project.weight.zero_()
            embed[camera].kind.copy_(0 * place if camera == "images_front" else -place)
        for name, sign in (("instruction", 1.0), ("state", -1.0)):
            embed[name].project.weight.zero_()
            embed[name].mark.places.zero_()
            embed[name].mark.kind.copy_(sign * torch.eye(len(place))[0])
        nearest = (embed["images_front"].places @ place).sort().values
        layer.query.weight.copy_(20 * place.expand(len(place), -1))
        layer.query.bias.fill_(-20 * nearest[-2:].mean())  # above 0 at that place alone
        layer.key_value.weight.zero_()
        layer.key_value.weight[: len(place), 0] = 1.0
        layer.key_value.bias.zero_()
    found = heatmaps(policy, inputs_of(policy))
    for row, words in enumerate(found.words):
        expected = torch.zeros(8, 8)
        expected[2, 5] = 1 / words.sum()
        for heat in found.maps["front"][row, words]:
            torch.testing.assert_close(heat, expected, atol=1e-5, rtol=0)


def test_even_attention_is_an_even_map() -> None:
    policy = small_policy(fusion=UnifiedConfig(layers=1))
    attention = policy.fusion.layers[0].attention
    with torch.no_grad():
        attention.query.weight.zero_()
        attention.query.bias.zero_()
    for maps in heatmaps(policy, inputs_of(policy)).whole().values():
        torch.testing.assert_close(maps, torch.full_like(maps, 1 / 32))


def test_action_tokens_leave_the_words_their_maps() -> None:
    policy = small_policy(fusion=UnifiedConfig(actions=8))
    assert heatmaps(policy, inputs_of(policy)).maps["wrist"].shape == (3, 16, 4, 4)


def test_a_camera_that_the_head_does_not_read_is_not_looked_at() -> None:
    policy = small_policy(fusion=FilmConfig())
    with torch.no_grad():
        policy.head.layers[1].weight[:, :256] = 0.0  # of the front camera's token, the first of four
    found = heatmaps(policy, inputs_of(policy)).whole()
    assert found["front"].abs().max() == 0
    torch.testing.assert_close(found["wrist"].sum(dim=(1, 2)), torch.ones(3))


def test_maps_are_even_where_words_change_nothing() -> None:
    policy = small_policy(fusion=FilmConfig())
    for name, weight in policy.fusion.named_parameters():
        if "film" in name or name.startswith(("cameras.images_front.first", "cameras.images_wrist.first", "others.in")):
            weight.data.zero_()
    for maps in heatmaps(policy, inputs_of(policy)).whole().values():
        torch.testing.assert_close(maps, torch.full_like(maps, 1 / 128))


def test_several_resolutions_of_a_camera_are_one_map() -> None:
    policy = small_policy(vision=TimmConfig("resnet10t", scales=(-1, -2)), fusion=MultiscaleConfig())
    finest = max(shape.n for shape in policy.encoder.shapes.values() if shape.grid)
    assert heatmaps(policy, inputs_of(policy)).maps["front"][0, 0].numel() == finest


def test_rows_do_not_mix_and_the_mode_stays() -> None:
    policy = small_policy(fusion=FilmConfig()).train()
    inputs = inputs_of(policy)
    together = heatmaps(policy, inputs).maps["front"]
    alone = torch.cat([heatmaps(policy, row).maps["front"] for row in inputs.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert policy.training


def test_an_absent_instruction_has_one_place() -> None:
    policy = small_policy(fusion=CrossAttentionConfig())
    inputs = policy.prepare(replace(random_observation(), instruction=["", "red ball", ""]))
    assert heatmaps(policy, inputs).words.sum(dim=1).tolist() == [1, 2, 1]


def test_without_a_camera_there_is_nothing_to_look_at() -> None:
    policy = small_policy(spec=Spec(cameras={}, state=("x", "y", "z"), actions=("x", "y", "z")))
    with pytest.raises(ValueError, match="no camera"):
        heatmaps(policy, inputs_of(policy))
