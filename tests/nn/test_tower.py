import torch

from plait.nn.tower import ResidualBlock, Tower, residual_stages
from plait.types import Shape, Tokens

GRID = (6, 5)
SHAPE = Shape(30, 8, GRID)
IMAGE = Tokens(torch.randn(2, 30, 8), torch.ones(2, 30, dtype=torch.bool), GRID)


def test_stages_after_the_first_halve_the_grid() -> None:
    blocks, channels, grid = residual_stages(8, GRID, (8, 12, 16), depth=2)
    assert (len(blocks), channels, grid) == (6, 16, (2, 2))
    assert torch.nn.Sequential(*blocks)(IMAGE.as_map()).shape == (2, 16, 2, 2)


def test_blocks_of_another_kind_are_placed_the_same() -> None:
    made: list[tuple[int, int, int]] = []

    def block(channels: int, out: int, stride: int) -> ResidualBlock:
        made.append((channels, out, stride))
        return ResidualBlock(channels, out, stride)

    residual_stages(8, GRID, (8, 12), 2, block)
    assert made == [(8, 8, 1), (8, 8, 1), (8, 12, 2), (12, 12, 1)]


def test_no_stages_leave_the_read_out_alone() -> None:
    assert Tower(SHAPE, stages=(), width=4)(IMAGE).shape == (2, 4)


def test_it_knows_where_things_are() -> None:
    tower = Tower(SHAPE, width=4).eval()
    turned = Tokens(IMAGE.data.flip(1), IMAGE.mask, GRID)
    assert not torch.allclose(tower(turned), tower(IMAGE), atol=1e-3)


def test_to_add_a_projection_is_to_append_the_vector_to_every_cell() -> None:
    tower, told = Tower(SHAPE, stages=(), told=3, readout_name="mean"), torch.randn(2, 3)
    appended = torch.cat([IMAGE.as_map(), told[:, :, None, None].expand(-1, -1, *GRID)], dim=1)
    weight = torch.cat([torch.eye(8), tower.tell.weight], dim=1)  # the pixels as they are, the vector projected
    joined = torch.nn.functional.conv2d(appended, weight[:, :, None, None], tower.tell.bias)
    torch.testing.assert_close(tower(IMAGE, told), tower.readout(joined.relu()))
