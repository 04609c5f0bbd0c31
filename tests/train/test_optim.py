"""Decay where it belongs, and a learning rate that depends on the step alone."""

import pytest
import torch
from torch import nn

from plait.train.config import TrainConfig
from plait.train.optim import build_optimizer, learning_rate, set_learning_rate


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.lstm = nn.LSTM(4, 4)
        self.norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)
        self.tied = self.linear
        self.token = nn.Parameter(torch.zeros(2, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_only_matrices_decay_and_each_parameter_stands_once() -> None:
    model = Parts()
    decayed, free = build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"lstm.weight_ih_l0", "lstm.weight_hh_l0", "linear.weight"}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(names[id(p)] for p in decayed["params"] + free["params"]) == sorted(trained)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="Linear has no parameter"):
        build_optimizer(nn.Linear(1, 1).requires_grad_(False), TrainConfig())


def test_learning_rate_rises_and_falls_to_zero() -> None:
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == max(rates) == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)


def test_warmup_longer_than_the_run_is_shortened() -> None:
    config = TrainConfig(steps=4, warmup_steps=100, learning_rate=1.0)
    assert [learning_rate(step, config) for step in range(4)] == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert learning_rate(0, TrainConfig(steps=1)) > 0


def test_set_learning_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(Parts(), TrainConfig())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
