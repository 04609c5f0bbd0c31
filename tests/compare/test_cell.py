import pytest
from rich.console import Console

from plait.compare.cell import Cell, Setup, grid, search
from plait.compare.report import Line, Share, pooled, tables
from plait.diagnose.cost import Cost

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
    assert settings["rate"] == 5e-4 and settings["env"] == "tabletop" and settings["seed"] == 1
    assert Cell("late", 200, 1).settings(SETUP)["rate"] == 5e-3


def test_names_are_checked_before_anything_is_done() -> None:
    with pytest.raises(ValueError, match="Did you mean 'film'"):
        grid(SETUP, ["flim"], [200], 1)
    with pytest.raises(ValueError, match="at least 1 of each"):
        grid(SETUP, ["film"], [0], 1)
    with pytest.raises(ValueError, match="learning rate 0: give a number above 0, such as 3e-3"):
        Setup("tabletop", learning_rates={"late": 0})
    with pytest.raises(ValueError, match="learning rate inf: give a number above 0"):
        Setup("tabletop", rates=(float("inf"),))
    with pytest.raises(ValueError, match="episodes: 0 is too small; at least 1"):
        Setup("tabletop", episodes=0)


def test_a_rate_is_searched_once_for_each_fusion_that_has_none() -> None:
    setup = Setup("tabletop", learning_rates={"unified": 5e-4}, rates=(1e-3, 5e-3))
    cells = grid(setup, ["late", "unified"], [100, 200], 2, contrasts=())
    first = search(setup, cells, [])
    assert [(cell.fusion, cell.demonstrations, cell.rate) for cell in first] == [
        ("late", 200, 1e-3),
        ("late", 200, 5e-3),
    ]
    again = search(setup, grid(setup, ["film"], [400], 1, contrasts=()), [*cells, *first])
    assert again[:2] == first and [(cell.fusion, cell.demonstrations) for cell in again[2:]] == [("film", 400)] * 2
    more = search(setup, grid(setup, ["late"], [400], 1, contrasts=()), first[:1])  # interrupted after one of two
    assert more == first
    assert first[1].name == "late-200-seed0-rate0.005" == Cell("late", 200, 0).at_rate(setup).name


def test_a_diverged_training_fails_in_every_trial() -> None:
    trials = {"seen": {"hits": 9, "n": 10}, "unseen": {"hits": 6, "n": 10}, "following": {"hits": 8, "n": 10}}
    shared = {"settings": {"episodes": 10, "rate": 1e-3}, "width": 8, "parameters": 100, "off": 0.0}
    found = {
        Cell("film", 4, seed): {**shared, "trials": each, "error": error}
        for seed, (each, error) in enumerate(((trials, None), (None, "the loss is nan"), (None, "the loss is nan")))
    }
    (line,) = pooled(found, {"film": Cost(100, 5, 1.0, 2.0, 9)})
    assert line.diverged == 2
    assert {name: (share.hits, share.n) for name, share in line.trials.items()} == {
        "seen": (9, 30), "unseen": (6, 30), "following": (8, 30),
    }  # fmt: skip


def test_80_columns_cut_no_figure() -> None:
    """Figures as long as they come; a share of mispaired instructions and trainings that diverged are shown too."""
    trials, cost = {"seen": Share(97, 100), "following": Share(300, 300)}, Cost(1, 987654321000, 98.76, 98.76, 10**9)
    size = (248, 98_765_432, -0.1234, 0.00015, 98765.0, 2)
    lines = [Line("cross_attention", 12800, each, "", trials, [0, 0, 100], *size, cost) for each in (0, 20)]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(*tables(lines), sep="\n")
    shown = captured.get()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    success, figures = shown.split("rate")
    for figure in ("12,800", "20 %", "97 [92, 99]", "0 – 100, 2", "diverged", "100 [99, 100]"):
        assert figure in success
    assert "cross_attention 0.00015   248    98.77 M -12.3% !  98765 s" in figures
    assert "cross_attention 987.654 98.76 ms 98.76 ms 953.7 MiB" in figures
