"""What a memory remembers: the last k vectors of each row, a value that the caller holds. Modules keep no state."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class History:
    """The last k vectors, the newest last. Where ``mask`` is False nothing was seen; what stands there is ignored."""

    vectors: Float[Tensor, "*b k d"]
    mask: Bool[Tensor, "*b k"]

    @classmethod
    def empty(cls, rows: int, steps: int, like: Float[Tensor, "... d"]) -> "History":
        """Nothing seen yet, for ``rows`` robots; width, type and device are those of ``like``."""
        return cls(like.new_zeros(rows, steps, like.shape[-1]), like.new_zeros(rows, steps, dtype=torch.bool))

    def after(self, features: Float[Tensor, "b t d"], reset: Bool[Tensor, "b t"]) -> "History":
        """The history after t further moments.

        Args:
            reset: True where an episode begins: what came before is no longer seen, in this row alone.
        """
        moments = self._with_itself(features, reset)
        return History(moments.vectors[:, -1], moments.mask[:, -1])

    def along(self, features: Float[Tensor, "b t d"], reset: Bool[Tensor, "b t"]) -> "History":
        """The history at each of t further moments, that moment included: ``vectors [b t k d]``, ``mask [b t k]``."""
        moments = self._with_itself(features, reset)
        return History(moments.vectors[:, 1:], moments.mask[:, 1:])

    def where(self, rows: Bool[Tensor, " b"], other: "History") -> "History":
        """This history in the rows that are True, the ``other`` one in the rest."""
        vectors = torch.where(rows[:, None, None], self.vectors, other.vectors)
        return History(vectors, torch.where(rows[:, None], self.mask, other.mask))

    def _with_itself(self, features: Tensor, reset: Tensor) -> "History":
        """This history, then those at each moment: windows onto one sequence, which takes no copy."""
        k = self.mask.shape[1]
        episode = torch.cat([torch.zeros_like(self.mask, dtype=torch.long), reset.long().cumsum(dim=1)], dim=1)
        episodes = episode.unfold(1, k, 1)
        mask = torch.cat([self.mask, torch.ones_like(reset)], dim=1).unfold(1, k, 1) & (episodes == episodes[..., -1:])
        return History(
            rearrange(torch.cat([self.vectors, features], dim=1).unfold(1, k, 1), "b t d k -> b t k d"), mask
        )

    def cleaned(self) -> Float[Tensor, "*b k d"]:
        """The vectors, zero where nothing was seen (``where``, not a product: 0 * NaN is NaN)."""
        return torch.where(self.mask[..., None], self.vectors, 0.0)


@runtime_checkable
class MemoryPart(Protocol):
    """What a memory module offers: the features of t moments in, and for each what the last ``steps`` amount to."""

    steps: int

    def start(self, rows: int) -> History:
        """The state before the first moment."""
        ...

    def __call__(
        self, features: Float[Tensor, "b t d"], state: History, reset: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t e"], History]: ...


def check_steps(part: str, steps: int) -> int:
    """``steps``, which must leave room for more than the present."""
    if steps < 2:
        raise ValueError(f"{part}: steps {steps} is too few; at least 2, the present and one moment before it")
    return steps


# torch.export and CUDA graphs look inside dataclasses only when they know them.
torch.export.register_dataclass(History)
