import torch

from plait.memory.attention import MemoryAttention
from plait.memory.history import History


def test_a_moment_is_known_by_its_age_not_by_its_place_in_the_episode() -> None:
    torch.manual_seed(0)
    memory = MemoryAttention(inputs=3, outputs=2, steps=4)
    features = torch.randn(1, 9, 3)
    features[:, 5:] = features[:, 1:5]  # the same four moments again
    output, _ = memory(features, memory.start(1), torch.zeros(1, 9, dtype=torch.bool))
    torch.testing.assert_close(output[:, 8], output[:, 4])


def test_without_positions_old_moments_would_be_told_apart_by_nothing() -> None:
    torch.manual_seed(0)
    memory = MemoryAttention(inputs=3, outputs=2, steps=4)
    vectors, never = torch.randn(1, 4, 3), torch.zeros(1, 4, dtype=torch.bool)
    swapped = vectors[:, [1, 0, 2, 3]]

    def answers() -> tuple[torch.Tensor, torch.Tensor]:
        empty = History.empty(1, 4, vectors)
        first, second = (memory(v, empty, never)[0][:, -1] for v in (vectors, swapped))
        return first, second

    assert not torch.allclose(*answers(), atol=1e-5)
    with torch.no_grad():
        memory.age.zero_()
    torch.testing.assert_close(*answers())
