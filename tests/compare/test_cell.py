import pytest

from plait.compare.cell import Cell, Setup, grid

SETUP = Setup("tabletop", learning_rates={"unified": 5e-4})


def test_the_grid_is_whole_and_the_first_seed_comes_first() -> None:
    cells = grid(SETUP, ["early", "late"], [200, 400], 2, [0, 20])
    assert len(cells) == len(set(cells)) == 2 * (2 * 2 + 2 + 2)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert {cell.demonstrations for cell in cells if cell.mispaired or cell.contrast} == {400}
    assert {cell.fusion for cell in cells if cell.contrast} == {"film"}
    assert len({cell.name for cell in cells}) == len(cells)
    assert str(cells[4]) == "early, 400 demonstrations, seed 0, 20 % mispaired"


def test_settings_hold_what_the_numbers_depend_on() -> None:
    settings = Cell("unified", 200, 1).settings(SETUP)
    assert settings["learning_rate"] == 5e-4 and settings["env"] == "tabletop" and settings["seed"] == 1
    assert Cell("late", 200, 1).settings(SETUP)["learning_rate"] == 3e-3


def test_names_are_checked_before_anything_is_done() -> None:
    with pytest.raises(ValueError, match="Did you mean 'film'"):
        grid(SETUP, ["flim"], [200], 1)
    with pytest.raises(ValueError, match="at least 1 of each"):
        grid(SETUP, ["film"], [0], 1)
