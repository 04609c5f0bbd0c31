import pytest
import torch

from plait.nn.embedding import GridEmbedding, Mark, SequenceEmbedding
from plait.types import Shape, Tokens

SHAPE = Shape(35, 8, (7, 5))


def test_a_stride_makes_the_grid_coarser_and_leaves_no_patch_out() -> None:
    data = torch.randn(1, 35, 8, requires_grad=True)
    embed = GridEmbedding(SHAPE, 12, stride=2)
    out = embed(Tokens(data, torch.ones(1, 35, dtype=torch.bool), (7, 5)))
    assert out.grid == embed.grid == (4, 3) and out.data.shape == (1, 12, 12) and out.mask.all()
    out.data.sum().backward()
    assert data.grad.abs().sum(dim=-1).gt(0).all()


def test_a_block_lets_a_patch_see_its_neighbours() -> None:
    data = torch.randn(1, 35, 8, requires_grad=True)
    out = GridEmbedding(SHAPE, 12, stages=(6,)).eval()(Tokens(data, torch.ones(1, 35, dtype=torch.bool), (7, 5)))
    (seen,) = torch.autograd.grad(out.data[0, 17].square().sum(), data)
    around = [row * 5 + column for row in (2, 3, 4) for column in (1, 2, 3)]
    assert out.grid == (7, 5) and seen[0].any(dim=-1).nonzero().flatten().tolist() == around


def test_with_blocks_a_patch_is_not_linear_in_the_encoders_output() -> None:
    data, every = torch.randn(1, 35, 8), torch.ones(1, 35, dtype=torch.bool)
    for stages, linear in (((), True), ((6,), False)):
        embed = GridEmbedding(SHAPE, 12, stages=stages).eval()
        zero, one, minus = (embed(Tokens(k * data, every, (7, 5))).data for k in (0.0, 1.0, -1.0))
        assert torch.allclose(one - zero, zero - minus, atol=1e-5) == linear


@pytest.mark.parametrize(("stages", "grid"), [((6, 10), (4, 3)), ((6, 10, 4), (2, 2))])
def test_each_block_after_the_first_halves_the_grid(stages: tuple[int, ...], grid: tuple[int, int]) -> None:
    mask = torch.stack([torch.ones(35, dtype=torch.bool), torch.arange(35) == 0])
    embed = GridEmbedding(SHAPE, 12, stages=stages)
    out = embed(Tokens(torch.randn(2, 35, 8), mask, (7, 5)))
    assert out.grid == embed.grid == grid and out.data.shape == (2, grid[0] * grid[1], 12)
    assert out.mask[0].all() and out.mask[1].tolist() == [True, *[False] * (grid[0] * grid[1] - 1)]


def test_stride_one_keeps_every_patch() -> None:
    mask = torch.rand(2, 35) > 0.5
    out = GridEmbedding(SHAPE, 12)(Tokens(torch.randn(2, 35, 8), mask, (7, 5)))
    assert out.grid == (7, 5) and torch.equal(out.mask, mask)


def test_an_absent_image_stays_one_valid_token() -> None:
    first = torch.arange(35)[None] == 0
    out = GridEmbedding(SHAPE, 12, stride=2)(Tokens(torch.randn(1, 35, 8), first, (7, 5)))
    assert out.mask.tolist() == [[True] + [False] * 11]


def test_padding_holds_nothing() -> None:
    data, mask = torch.randn(2, 5, 8), torch.arange(5) < torch.tensor([[5], [2]])
    embed = SequenceEmbedding(Shape(6, 8), 12)
    poisoned = embed(Tokens(data.masked_fill(~mask[..., None], torch.nan), mask))
    assert poisoned.data.isfinite().all()


def test_the_same_token_differs_by_place_and_by_modality() -> None:
    same = torch.zeros(1, 3, 12)
    one, other = Mark(3, 12, "words"), Mark(3, 12, "words")
    assert len(one(same)[0].unique(dim=0)) == 3 and not torch.allclose(one(same), other(same))


def test_more_tokens_than_places_are_refused_in_a_sentence() -> None:
    with pytest.raises(
        ValueError, match="4 words, but only 3 have a place; build the model with words=4, or give fewer"
    ):
        Mark(3, 12, "words")(torch.zeros(1, 4, 12))
