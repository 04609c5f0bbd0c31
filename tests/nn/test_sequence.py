import pytest
import torch

from plait.nn.sequence import GroupEmbedding, GroupReadout, join, split
from plait.types import Shape, Tokens

SHAPES = {"images.front": Shape(25, 6, (5, 5)), "images.wrist": Shape(6, 4, (2, 3)), "instruction": Shape(4, 3)}


def _groups(rows: int = 2) -> dict[str, Tokens]:
    torch.manual_seed(0)
    return {
        name: Tokens(torch.randn(rows, s.n, s.dim), torch.arange(s.n) < torch.tensor([[s.n], [1]]), s.grid)
        for name, s in SHAPES.items()
    }


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_declared_shapes_are_the_real_ones(stride: int) -> None:
    embed = GroupEmbedding(SHAPES, 8, stride)
    for name, tokens in embed(_groups()).items():
        assert tokens.data.shape[1:] == (embed.shapes[name].n, embed.shapes[name].dim)
        assert tokens.mask.shape == tokens.data.shape[:2] and tokens.grid == embed.shapes[name].grid
        assert tokens.mask[0].all() and tokens.mask[1].any(), "a group is never empty"


def test_what_is_joined_is_cut_back() -> None:
    groups = GroupEmbedding(SHAPES, 8)(_groups())
    joined = join(groups)
    assert joined.data.shape == (2, 35, 8)
    for name, tokens in split(joined.data, groups).items():
        assert tokens.data.equal(groups[name].data) and tokens.mask.equal(groups[name].mask)


def test_one_token_per_group_whatever_stands_at_padding() -> None:
    groups, readout = _groups(), GroupReadout(SHAPES, 7, cells=3)
    poisoned = {n: Tokens(t.data.masked_fill(~t.mask[..., None], torch.nan), t.mask, t.grid) for n, t in groups.items()}
    assert readout(groups).data.shape == (2, 3, 7)
    torch.testing.assert_close(readout(poisoned).data, readout(groups).data)
