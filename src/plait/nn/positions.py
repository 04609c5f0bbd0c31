"""Where the tokens of a grid are, as numbers that do not change."""

import torch
from jaxtyping import Float
from torch import Tensor


def grid_positions(grid: tuple[int, int], dim: int) -> Float[Tensor, "n d"]:
    """Two-dimensional sine and cosine positions, row by row (https://arxiv.org/abs/2010.11929, appendix D.4).

    Raises:
        ValueError: ``dim`` is not a multiple of 4 (sine and cosine, for rows and for columns).
    """
    if dim % 4:
        raise ValueError(f"grid positions: width {dim} is not a multiple of 4")
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    frequency = 10_000 ** -torch.linspace(0, 1, dim // 4, device=rows.device)  # also where shapes alone are wanted
    angles = [axis.reshape(-1, 1) * frequency for axis in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def grid_coordinates(grid: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """(x, y) of each token, row by row: -1 is the left and the top edge, 1 the right and the bottom one."""
    rows, columns = (2 * (torch.arange(count) + 0.5) / count - 1 for count in grid)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1).flatten(0, 1)
