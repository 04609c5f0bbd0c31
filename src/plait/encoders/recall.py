"""Features of the sentences that were heard last: a policy hears the same one at every step."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Recall:
    """Encodes each distinct sentence once, for as long as the encoder's weights stay as they are.

    A sentence is encoded alone, so that its features do not depend on what else was heard.

    Args:
        module: the encoder, whose weights are watched.
        size: how many sentences are kept; the one that was not heard for longest goes first.
    """

    def __init__(self, module: nn.Module, size: int = 1024):
        self.size = size
        self._weights = tuple(module.parameters())
        self._state: object = None
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()

    def __call__(
        self,
        words: Int[Tensor, "b l"],
        mask: Bool[Tensor, "b l"],
        encode: Callable[[Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "b l d"]:
        """``encode(words, mask)``, row by row, where it is not known."""
        if (state := self._current_state()) != self._state:
            self._features.clear()
            self._state = state
        features = []
        for row, sentence in enumerate(torch.where(mask, words, -1).cpu().numpy()):
            key = sentence.tobytes()
            if key not in self._features:
                self._features[key] = encode(words[row : row + 1], mask[row : row + 1])
            self._features.move_to_end(key)
            features.append(self._features[key])
        while len(self._features) > self.size:
            self._features.popitem(last=False)
        return torch.cat(features)

    def _current_state(self) -> object:
        """Changes when any weight is written to or moves, and with the number format of autocast."""
        device = self._weights[0].device.type if self._weights else "cpu"
        number_format = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        return number_format, tuple((weight.data_ptr(), weight._version) for weight in self._weights)
