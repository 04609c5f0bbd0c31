"""The loss that never holds the whole matrix is the loss, to the last digits, and it does not hold the matrix."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from plait.alignment.infonce import info_nce
from plait.alignment.right import Right
from plait.diagnose.cost import peak_bytes

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(vision: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    logits, labels = scale * vision @ text.T, torch.arange(len(vision))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def shared(right: Right) -> Loss:
    """The plain loss with targets that are shared evenly among the right answers."""
    target = right.tile().double()

    def loss(vision: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        ways = (scale * vision @ text.T, target), (scale * text @ vision.T, target.T)
        return sum(cross_entropy(s, (t / t.sum(1, keepdim=True)).to(s.dtype)) for s, t in ways) / 2  # pyright: ignore

    return loss


def tiled(tile: int, right: Right | None = None) -> Loss:
    return lambda vision, text, scale: info_nce(vision, text, scale, right=right, tile=tile)


def several(n: int) -> Right:
    """Every third text is the same, and of each picture the next two texts are true as well."""
    numbers = torch.where(torch.arange(n) % 3 == 0, n, torch.arange(n))
    return Right(numbers, torch.stack([numbers.roll(-shift) for shift in range(3)], dim=1))


def pairs(n: int, width: int, dtype: torch.dtype = torch.float64, scale: float = 14.0) -> tuple[Tensor, ...]:
    """Embeddings of unit length, pairs closer than others; and the scale."""
    generator = torch.Generator().manual_seed(0)
    vision, noise = (torch.randn(n, width, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = normalize(vision, dim=1), normalize(vision + noise, dim=1)
    return tuple(x.to(dtype).requires_grad_() for x in (*rows, torch.tensor(scale)))


def with_gradients(loss: Loss, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    value = loss(*inputs)
    return [value, *torch.autograd.grad(3 * value, inputs)]


@pytest.mark.parametrize(("n", "tile"), [(64, 16), (50, 16), (50, 64), (7, 1), (1, 4)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)], ids=["float64", "float32"]
)
def test_it_is_the_plain_loss_with_its_gradients(n: int, tile: int, dtype: torch.dtype, tolerance: float) -> None:
    inputs = pairs(n, 8, dtype)
    found, expected = (with_gradients(loss, inputs) for loss in (tiled(tile), plain))
    assert n == 1 or all(each.abs().max() > 1e-3 for each in expected)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("n", "tile"), [(50, 16), (50, 64), (7, 1)])
def test_with_several_right_answers_it_is_the_loss_with_shared_targets(n: int, tile: int) -> None:
    inputs, right = pairs(n, 8), several(n)
    found, expected = with_gradients(tiled(tile, right), inputs), with_gradients(shared(right), inputs)
    assert (found[0] - with_gradients(plain, inputs)[0]).abs() > 0.1
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("right", [None, several(5)], ids=["own", "several"])
def test_gradients_are_the_slopes(right: Right | None) -> None:
    assert torch.autograd.gradcheck(tiled(2, right), pairs(5, 3))


def test_rows_that_are_far_below_the_others_count_as_exactly() -> None:
    """One pair is the same, the others are orthogonal or opposed: exponentials differ by more than float32 holds."""
    vision = torch.eye(6)
    text = torch.stack([vision[0], *vision[2:], -vision[1]])
    inputs = tuple(x.requires_grad_() for x in (vision, text, torch.tensor(100.0)))
    for mine, theirs in zip(with_gradients(tiled(4), inputs), with_gradients(plain, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-4)  # 100 squared times float32's precision


def test_autocast_multiplies_in_its_own_type_both_times() -> None:
    inputs = pairs(40, 32, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = tiled(16)(*inputs), plain(*inputs)
    assert mine.dtype == torch.float32 and mine != tiled(16)(*inputs)
    torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-2)
    for g, h in zip(torch.autograd.grad(mine, inputs), torch.autograd.grad(theirs, inputs), strict=True):
        assert g.dtype == torch.float32
        assert (g - h).norm() < 0.02 * h.norm()


class Largest(TorchDispatchMode):
    """The most numbers in one tensor that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def largest(loss: Loss, n: int) -> int:
    inputs = pairs(n, 8, torch.float32)
    with Largest() as mode:
        with_gradients(loss, inputs)
    return mode.numbers


def test_no_tensor_is_larger_than_the_embeddings_or_a_tile() -> None:
    assert largest(plain, 300) == 300 * 300
    assert largest(tiled(32), 300) == 300 * 8
    assert largest(tiled(64), 300) == largest(tiled(64, several(300)), 300) == 64 * 64


def test_memory_grows_with_the_batch_and_not_with_its_square() -> None:
    def peak(loss: Loss, n: int) -> int:
        inputs = pairs(n, 8, torch.float32)
        return peak_bytes(lambda: with_gradients(loss, inputs), torch.device("cpu"))

    assert peak(plain, 2048) > 3.8 * peak(plain, 1024) and peak(plain, 2048) > 2048 * 2048 * 4 * 2
    assert peak(tiled(128), 2048) < 2.1 * peak(tiled(128), 1024) < 2**20
