import torch

from plait.memory.history import History
from plait.memory.recurrent import ContextAwareMultiModal, Recurrent


def test_padding_takes_no_part() -> None:
    """A short history is read as if the window were that short: not even the number of empty places matters."""
    torch.manual_seed(0)
    memory = Recurrent(inputs=3, outputs=2, steps=5)
    vectors = torch.randn(1, 2, 3)
    hidden, _ = memory.cell(vectors)
    state = History.empty(1, 5, vectors).after(vectors[:, :1], torch.tensor([[True]]))
    output, _ = memory(vectors[:, 1:], state, torch.tensor([[False]]))
    torch.testing.assert_close(output[:, 0], memory.output(hidden[:, -1]))


def test_a_memory_belongs_to_its_rows_and_episodes() -> None:
    """The tutorial keeps one Python list for all rows and episodes, without a reset."""
    torch.manual_seed(0)
    model = ContextAwareMultiModal(d_model=8, context_size=4)
    moments = [(torch.randn(2, 8), torch.randn(2, 8)) for _ in range(3)]
    fresh, _ = model(*moments[2])
    _, memory = model(*moments[0])
    _, memory = model(*moments[1], memory)
    going_on, after = model(*moments[2], memory)
    assert not torch.allclose(going_on, fresh, atol=1e-4)
    torch.testing.assert_close(model(*moments[2], memory)[0], going_on)  # the old memory was kept: nothing was added
    torch.testing.assert_close(model(*moments[2])[0], fresh)  # no memory: nothing stayed in the module
    partly, reset = model(*moments[2], memory, reset=torch.tensor([True, False]))
    torch.testing.assert_close(partly, torch.stack([fresh[0], going_on[1]]))
    assert after.mask.sum(dim=1).tolist() == [3, 3] and reset.mask.sum(dim=1).tolist() == [1, 3]


def test_it_is_as_large_as_the_tutorial_says() -> None:
    cell = ContextAwareMultiModal().memory.cell
    assert (cell.input_size, cell.hidden_size) == (1536, 768)
