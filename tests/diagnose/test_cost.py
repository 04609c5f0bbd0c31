import pytest
import torch
from torch import nn

from plait.diagnose import cost
from plait.diagnose.cost import flops, measure, peak_bytes
from plait.nn.attention import Attention

CPU = torch.device("cpu")


def test_a_linear_layer_costs_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MOST", 20)
    layer, x = nn.Linear(100, 300), torch.randn(50, 100)
    measured = measure(layer, torch.inference_mode()(lambda: layer(x)), CPU)
    assert measured.parameters == 100 * 300 + 300
    assert measured.flops == 2 * 50 * 100 * 300
    assert measured.peak_bytes == 50 * 300 * 4
    assert 0 < measured.p50_ms <= measured.p99_ms


def test_attention_is_counted_although_its_kernel_is_fused() -> None:
    layer, x = Attention(64, 4), torch.randn(1, 10, 64)
    mask = torch.ones(1, 10, dtype=torch.bool)
    projections, products = 2 * 10 * 64 * 64 * 4, 2 * 2 * 10 * 10 * 64
    assert flops(lambda: layer(x, x, mask)) == projections + products


def test_the_peak_is_the_most_that_is_held_at_once() -> None:
    def call() -> None:
        for _ in range(5):
            torch.ones(1000, 1000)  # freed before the next one

    assert 4_000_000 <= peak_bytes(call, CPU) < 8_100_000
