"""Which texts are right for which pictures, without the matrix of all combinations."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plait.alignment.gather import gathered
from plait.data.world import World

Groups = Tensor | Sequence[Hashable]


@dataclass(frozen=True)
class Right:
    """Text j is right for picture i where its number is among those that are true of the picture.

    >>> right = Right(texts=torch.tensor([7, 8, 9]), true=torch.tensor([[7, 9], [8, -1]]))
    >>> right.tile()
    tensor([[ True, False,  True],
            [False,  True, False]])

    Attributes:
        texts: the number of each of m texts, from 0; equal texts have equal numbers.
        true: of each of n pictures, the numbers of all texts that are true of it; -1 fills up.
    """

    texts: Int[Tensor, " m"]
    true: Int[Tensor, "n k"]

    @classmethod
    def grouped(cls, groups: Groups | None, pairs: int) -> "Right":
        """Of pairs, of which those with equal values belong together; each one alone when omitted.

        Raises:
            ValueError: not one value for each pair.
        """
        if groups is None:
            numbers = torch.arange(pairs)
            return cls(numbers, numbers[:, None])
        values = groups.tolist() if isinstance(groups, Tensor) else groups
        if len(values) != pairs:
            raise ValueError(f"groups: {len(values)} values for {pairs} pairs; give one for each pair")
        numbers = {value: number for number, value in enumerate(values)}
        texts = torch.tensor([numbers[value] for value in values])
        return cls(texts, texts[:, None])

    @classmethod
    def told(cls, texts: Sequence[str], true: Sequence[Sequence[str]], most: int = 1) -> "Right":
        """Of texts, and of all that is true of each picture, whether it is among the texts or not.

        Args:
            most: ``true`` gets as many columns at least, so that all batches have one shape.
        """
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        most = max(most, *map(len, true))
        rows = [[numbers.get(text, -1) for text in own] + [-1] * (most - len(own)) for own in true]
        return cls(torch.tensor([numbers[text] for text in texts]), torch.tensor(rows))

    def tile(self, pictures: slice = slice(None), texts: slice = slice(None)) -> Bool[Tensor, "n m"]:
        """Part of the matrix of all combinations."""
        columns = self.texts[texts]
        return reduce(or_, (true[:, None] == columns for true in self.true[pictures].unbind(1)))

    def gathered(self, world: World) -> "Right":
        """This process's pictures with the texts of all."""
        return replace(self, texts=gathered(self.texts, world))
