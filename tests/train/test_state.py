"""What a training is saved as."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from plait.train.state import TrainState


def test_what_is_on_the_processor_is_written_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory for all weights and moments took most of the time that a checkpoint takes."""
    written: dict[str, Tensor] = {}
    monkeypatch.setattr("plait.train.state.save_file", lambda tensors, path: written.update(tensors))
    state = TrainState.start(tiny.Model(), tiny.CONFIG)
    state.loss(tiny.Source().batch(0))["loss"].backward()
    state.optimizer.step()
    state.save(tmp_path)
    own = {value.data_ptr() for value in state.model.state_dict().values()}
    own |= {value.data_ptr() for moments in state.optimizer.state.values() for value in moments.values()}
    assert len(written) == len(own) and {value.data_ptr() for value in written.values()} == own
    assert torch.equal(written["model.linear.weight"], state.model.state_dict()["linear.weight"])
