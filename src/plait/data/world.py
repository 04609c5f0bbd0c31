"""Several processes that train one policy: which of them this one is, and which rows of a batch are its own."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

Rows = TypeVar("Rows", np.ndarray, Tensor)


@dataclass(frozen=True)
class World:
    """Process ``rank`` (0 to size - 1) of ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, rows: Rows) -> Rows:
        """Its own of the rows of a whole batch, whose number must be a multiple of ``size``."""
        share = len(rows) // self.size
        return rows[self.rank * share : (self.rank + 1) * share]


ALONE = World()
