"""The moving average against its definition."""

import pytest
import torch
from torch import nn

from plait.train.ema import Ema


def test_average_follows_the_formula_and_copies_buffers() -> None:
    model = nn.BatchNorm1d(1)
    ema = Ema(model, decay=0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 4.0, 8.0, 16.0]):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        ema.prepare(step)
        ema.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert ema.model.weight.item() == pytest.approx(expected)
        assert ema.model.running_mean.item() == value


def test_average_takes_no_gradient_and_leaves_the_model_alone() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    ema = Ema(model, decay=0.9)
    ema.prepare(0)
    ema.update(model)
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())
    assert torch.equal(model.weight, before) and model.weight.requires_grad
