"""What an update computes is counted by hand and by the counter, and set against the peak of the card."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from plait.nn.device import pick_autocast
from plait.train.flops import peak, sample_flops
from plait.train.tracker import read_log

CPU = torch.device("cpu")
CONVOLUTION, LINEAR = 2 * (3 * 3 * 3) * 4 * 16, 2 * (4 * 16) * 2
SAMPLE = 2 * CONVOLUTION + 3 * LINEAR  # of the first layer only the weights need a gradient, not the pixels


@pytest.mark.parametrize("rows", [1, 8, 40])
def test_a_sample_of_any_batch_is_counted_and_the_model_is_left_alone(rows: int) -> None:
    model = tiny.Model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = tiny.Pair(torch.randn(rows, 3, 4, 4), torch.randn(rows, 2))
    assert sample_flops(model, batch, pick_autocast("float32", CPU)) == SAMPLE
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA T4", None),
    ],
)
def test_the_peak_of_a_card(name: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak(torch.device("cuda")) == expected
    assert peak(CPU) is None


def test_the_log_tells_how_much_of_the_peak_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.train.loop.peak", lambda device: 1e9)
    tiny.train(tmp_path / "known", replace(tiny.CONFIG, log_every=6, device="cpu"))
    for row in read_log(tmp_path / "known")[5::6]:
        assert row["mfu"] == pytest.approx(SAMPLE * row["samples_per_s"] / 1e9)
