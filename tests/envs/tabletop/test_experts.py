import pytest

from plait.envs.tabletop.env import FLASH, Tabletop
from plait.envs.tabletop.tasks import FAMILIES
from plait.record.mishaps import Pushes


def _lengths(env: Tabletop, seeds: range, pushes: float = 0.0, instruction: str = "normal") -> list[int]:
    """Of the successful episodes."""
    lengths = []
    for seed in seeds:
        env.reset(seed=seed, options={"instruction": instruction})
        expert, over, steps, success = env.expert(), False, 0, False
        pushed = Pushes(env.embodiment, pushes, seed)
        while not over:
            _, _, success, truncated, _ = env.step(pushed(expert.action()))
            steps, over = steps + 1, success or truncated
        lengths += [steps] if success else []
    return lengths


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("vocabulary", ["small", "large"])
def test_the_expert_succeeds(family, vocabulary: str):
    lengths = _lengths(Tabletop(family, vocabulary, combinations="all", cameras=()), range(15))
    assert len(lengths) >= 14
    assert sum(lengths) / len(lengths) < (28 if family in ("pick", "push") else 36 if family == "recall" else 55)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_recovers_from_pushes(family):
    assert len(_lengths(Tabletop(family, cameras=()), range(10), pushes=1.0)) >= 9


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_does_what_the_exchanged_instruction_says(family):
    assert len(_lengths(Tabletop(family, cameras=()), range(6), instruction="exchanged")) >= 5


def test_the_expert_holds_still_while_the_lamp_is_lit():
    """Or the hand's pose would tell later what the lamp has shown."""
    env = Tabletop("recall", cameras=())
    env.reset(seed=0)
    expert = env.expert()
    for step in range(12):
        action = expert.action()
        assert bool(action[:6].any()) == (step >= FLASH)
        env.step(action)
