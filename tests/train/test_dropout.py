"""Modality dropout hides cameras and state, never the instruction, and depends on the step alone."""

import torch

import tiny
from plait.memory import RecurrentConfig
from plait.spec import INSTRUCTION
from plait.train.dropout import ModalityDropout
from plait.train.loop import train_step
from plait.train.state import TrainState
from plait.types import Batch
from policies import random_batch, small_policy


class Source:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def stream(self, start: int, stop: int) -> list[Batch]:
        return [self.batch] * (stop - start)

    def validation(self) -> list[Batch]:
        return [self.batch]


def test_rows_are_hidden_with_the_probability_and_by_the_step() -> None:
    batch = random_batch(small_policy(), rows=400)
    source = ModalityDropout(Source(batch), probability=0.25, seed=3)
    first, second = source.stream(0, 2)
    (second_again,) = source.stream(1, 2)
    for name in ("images.front", "images.wrist", "state"):
        hidden = 1 - first.inputs.present[name].float().mean().item()
        assert 0.18 < hidden < 0.32
        assert not torch.equal(first.inputs.present[name], second.inputs.present[name])
        assert torch.equal(second.inputs.present[name], second_again.inputs.present[name])
    assert first.inputs.present[INSTRUCTION].all()
    assert not torch.equal(first.inputs.present["images.front"], first.inputs.present["images.wrist"])
    assert list(source.validation()) == [batch]


def test_what_is_hidden_does_not_follow_what_the_model_draws() -> None:
    batch, drawn = random_batch(small_policy(), rows=40), []
    state = TrainState.start(tiny.Model(), tiny.CONFIG)
    train_step(state, batch, tiny.CONFIG, lambda _: drawn.append(torch.rand(40)) or {})
    (hidden,) = ModalityDropout(Source(batch), probability=0.5, seed=tiny.CONFIG.seed).stream(0, 1)
    for name in ("images.front", "images.wrist", "state"):
        assert not torch.equal(hidden.inputs.present[name], drawn[0] >= 0.5)


def test_what_is_absent_stays_absent() -> None:
    batch = random_batch(small_policy(), rows=40)
    batch.inputs.present["state"][:20] = False
    (hidden,) = ModalityDropout(Source(batch), probability=0.1, seed=0).stream(0, 1)
    assert not hidden.inputs.present["state"][:20].any() and hidden.inputs.present["state"][20:].any()


def test_what_is_hidden_is_hidden_in_all_moments_of_a_window() -> None:
    batch = random_batch(small_policy(memory=RecurrentConfig(steps=3)), rows=40)
    (hidden,) = ModalityDropout(Source(batch), probability=0.5, seed=0).stream(0, 1)
    flags = hidden.inputs.present["state"].view(40, 3)
    assert (flags == flags[:, :1]).all() and 0 < flags[:, 0].sum() < 40
