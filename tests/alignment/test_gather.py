"""Several processes compute the loss that one computes on all their pairs, and its gradient."""

import pytest

import gathering

PROCESSES = 2


@pytest.fixture(scope="module")
def together() -> list[gathering.Found]:
    return gathering.together(PROCESSES)


@pytest.mark.parametrize("objective", gathering.OBJECTIVES)
@pytest.mark.parametrize("rank", range(PROCESSES))
def test_loss_and_gradient_are_those_of_one_process(together: list[gathering.Found], rank: int, objective: str) -> None:
    expected = gathering.alone()[objective]
    assert expected.keys() >= {"loss", "vision", "text", "scale.log_scale"}
    assert min(max(map(abs, values)) for values in expected.values()) > 1e-3
    for name, values in expected.items():
        assert together[rank][objective][name] == pytest.approx(values, rel=1e-10, abs=1e-12), name
