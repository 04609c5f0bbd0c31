"""Recurrent memory: an LSTM or a GRU reads the last k moments, from the oldest to the present."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.memory.history import History, check_steps

CellName = Literal["lstm", "gru"]


@dataclass(frozen=True)
class RecurrentConfig:
    """An LSTM or a GRU over the last moments.

    Hochreiter & Schmidhuber, 1997, and https://arxiv.org/abs/1406.1078.

    Attributes:
        steps: moments that are remembered, the present included; one moment is one prediction of the policy.
        cell: lstm or gru.
        layers: of the recurrent network.
        width: of its hidden state.
    """

    steps: int = 10
    cell: CellName = "lstm"
    layers: int = 1
    width: int = 128

    def __post_init__(self) -> None:
        refuse_outside(self, steps="[2, inf)")

    def build(self, inputs: int, outputs: int) -> "Recurrent":
        return Recurrent(inputs, outputs, **vars(self))


class Recurrent(nn.Module):
    """Reads its window anew at each moment, from a hidden state of zeros.

    So the hidden state never outlives the window, and a window cut out of an episode for training gives exactly what
    acting through that episode gives.
    """

    def __init__(
        self, inputs: int, outputs: int, steps: int = 10, cell: CellName = "lstm", layers: int = 1, width: int = 128
    ):
        super().__init__()
        self.steps = check_steps("recurrent", steps)
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](inputs, width, layers, batch_first=True)
        self.output = nn.Linear(width, outputs)

    def start(self, rows: int) -> History:
        return History.empty(rows, self.steps, like=self.cell.weight_ih_l0)

    def forward(
        self, features: Float[Tensor, "b t d"], state: History, reset: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t e"], History]:
        """``reset``: True where an episode begins. Returns one vector per moment, and the state after the last."""
        moments = state.along(features, reset)
        hidden, _ = self.cell(rearrange(_aligned(moments), "b t k d -> (b t) k d"))
        last = moments.mask.sum(dim=2).flatten() - 1
        newest = hidden.gather(1, repeat(last, "n -> n 1 w", w=hidden.shape[-1]))
        return rearrange(self.output(newest), "(b t) 1 e -> b t e", t=features.shape[1]), state.after(features, reset)


def _aligned(moments: History) -> Float[Tensor, "b t k d"]:
    """The valid vectors first, in their order: as the network reads them, it has not yet met what is not valid."""
    order = (~moments.mask).to(torch.int8).argsort(dim=-1, stable=True)
    return moments.cleaned().gather(2, repeat(order, "b t k -> b t k d", d=moments.vectors.shape[-1]))


class ContextAwareMultiModal(nn.Module):
    """The last ``context_size`` pairs of vision and language features, read by an LSTM (2 d_model -> d_model).

    The memory is the caller's: one robot or episode, one memory. To look without remembering, keep the old one.

    >>> model = ContextAwareMultiModal(d_model=768, context_size=10)
    >>> fused, memory = model(torch.randn(2, 768), torch.randn(2, 768))
    >>> fused, memory = model(torch.randn(2, 768), torch.randn(2, 768), memory)
    >>> fused.shape, memory.vectors.shape, memory.mask.sum(dim=1)
    (torch.Size([2, 768]), torch.Size([2, 10, 1536]), tensor([2, 2]))
    """

    def __init__(self, d_model: int = 768, context_size: int = 10):
        super().__init__()
        self.memory = Recurrent(2 * d_model, d_model, context_size, width=d_model)

    def forward(
        self,
        vision: Float[Tensor, "b d"],
        language: Float[Tensor, "b d"],
        memory: History | None = None,
        reset: Bool[Tensor, " b"] | Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b d"], History]:
        """``reset``: True, or 1, for each row whose episode begins now; ``memory`` None: all of them do."""
        state = self.memory.start(len(vision)) if memory is None else memory
        begins = vision.new_zeros(len(vision), dtype=torch.bool) if reset is None else reset.bool()
        fused, state = self.memory(torch.cat([vision, language], dim=1)[:, None], state, begins[:, None])
        return fused[:, 0], state
