"""What may be concluded from n scenes about a ratio, of which no formula is as simple as that of a share."""

import torch
from jaxtyping import Float
from torch import Tensor

DRAWS = 2000


def ratio(above: Float[Tensor, " n"], below: Float[Tensor, " n"]) -> tuple[float, float, float]:
    """The mean of ``above`` over the mean of ``below``, with its 95 % percentile interval (Efron, "Bootstrap Methods",
    Annals of Statistics 7, 1979). Entries of the same number belong to one scene, which is drawn as a whole.

    >>> ratio(torch.tensor([2.0, 4.0, 6.0]), torch.tensor([1.0, 2.0, 3.0]))
    (2.0, 2.0, 2.0)

    Raises:
        ValueError: no scenes.
    """
    if not len(above):
        raise ValueError("bootstrap: no scenes; give at least one")
    drawn = torch.randint(len(above), (DRAWS, len(above)), generator=torch.Generator().manual_seed(0))
    pair = torch.stack([above, below]).double().cpu()
    low, high = _ratio(pair[:, drawn]).nan_to_num(0.0).quantile(torch.tensor([0.025, 0.975], dtype=torch.double))
    return _ratio(pair).nan_to_num(0.0).item(), low.item(), high.item()


def _ratio(pair: Float[Tensor, "2 *draws n"]) -> Float[Tensor, "*draws"]:
    above, below = pair.mean(dim=-1)
    return above / below
