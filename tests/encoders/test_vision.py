from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from plait.encoders.vision import PatchConfig, TimmConfig

IMAGES = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    "config", [PatchConfig(), PatchConfig(8, 8, 16), TimmConfig("resnet10t"), TimmConfig("test_vit")]
)
def test_the_declared_shape_is_the_real_one(config: PatchConfig | TimmConfig) -> None:
    encoder = config.build((64, 64))
    tokens = encoder(IMAGES)
    assert tokens.data.shape == (2, encoder.shape.n, encoder.shape.dim)
    assert tokens.grid == encoder.shape.grid and tokens.grid[0] * tokens.grid[1] == encoder.shape.n > 1
    assert tokens.mask.all()


def test_frozen_means_that_nothing_changes_batch_norm_included() -> None:
    encoder = TimmConfig("resnet10t", frozen=True).build((64, 64)).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    tokens = encoder(IMAGES)
    assert not tokens.data.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert TimmConfig("resnet10t").build((64, 64)).train()(IMAGES).data.requires_grad


def test_pretrained_weights_from_a_local_file(tmp_path: Path) -> None:
    source = timm.create_model("resnet10t", num_classes=0)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    encoder = TimmConfig("resnet10t", weights=str(tmp_path / "weights.safetensors")).build((64, 64))
    assert torch.equal(encoder.backbone.state_dict()["conv1.0.weight"], source.state_dict()["conv1.0.weight"])


def test_errors_name_the_value_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no timm model 'resnet1O'"):
        TimmConfig("resnet1O").build((64, 64))
    with pytest.raises(ValueError, match="is not a file"):
        TimmConfig("resnet10t", weights="nowhere.safetensors").build((64, 64))
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="tensors are missing"):
        TimmConfig("resnet10t", weights=str(tmp_path / "other.safetensors")).build((64, 64))
