"""What may be concluded from n scenes about a ratio, of which no formula is as simple as that of a share."""

import torch
from jaxtyping import Float
from torch import Tensor

DRAWS = 2000
MOST = 1000.0  # a ratio is told up to here: below it there may be nothing


def ratio(
    above: Float[Tensor, " n"], below: Float[Tensor, " n"], least: float = 0.0, most: float = MOST
) -> tuple[float, float, float]:
    """The mean of ``above`` over the mean of ``below``, with its 95 % percentile interval (Efron, "Bootstrap Methods",
    Annals of Statistics 7, 1979). Entries of the same number belong to one scene, which is drawn as a whole.

    >>> ratio(torch.tensor([2.0, 4.0, 6.0]), torch.tensor([1.0, 2.0, 3.0]))
    (2.0, 2.0, 2.0)

    Args:
        least: what the mean of ``below`` counts for where it is less.
        most: what the ratio counts for where it is more.

    Raises:
        ValueError: no scenes.
    """
    if not len(above):
        raise ValueError("bootstrap: no scenes; give at least one")
    drawn = torch.randint(len(above), (DRAWS, len(above)), generator=torch.Generator().manual_seed(0))
    pair = torch.stack([above, below]).double().cpu()
    low, high = _ratio(pair[:, drawn], least, most).quantile(torch.tensor([0.025, 0.975], dtype=torch.double))
    return _ratio(pair, least, most).item(), low.item(), high.item()


def _ratio(pair: Float[Tensor, "2 *draws n"], least: float, most: float) -> Float[Tensor, "*draws"]:
    above, below = pair.mean(dim=-1)
    return (above / below.clamp(min=least)).nan_to_num(0.0).clamp(max=most)  # nothing over nothing is 0
