from typing import Any

import pytest

from plait.diagnose.success import TO_THE_END, black_cameras, success_under_failure, success_with_intervals
from plait.evaluate.statistics import wilson


def test_dots_and_intervals_stand_where_they_must() -> None:
    axes = success_with_intervals({"told": (94, 100), "never": (0, 20), "no episode": (0, 0)}).axes[0]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == [94.0, 0.0]
    spans = [list(line.get_xdata()) for line in axes.lines if line.get_marker() != "o"]
    assert spans[0] == pytest.approx([100 * x for x in wilson(94, 100)])
    assert spans[2] == [0.0, 100.0]
    assert "success" in axes.get_xlabel()


def test_curves_are_drawn_in_order_with_their_bands() -> None:
    axes = success_under_failure({"black": [(100, 5, 50), (0, 45, 50)], "frozen": [(0, 45, 50)]}).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 100], [0]]
    assert list(axes.lines[0].get_ydata()) == [90.0, 10.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(100 * wilson(45, 50)[1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["black", "frozen"]
    assert axes.get_xlabel() and axes.get_ylabel()


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        success_with_intervals({"told": (3, 2)})
    with pytest.raises(ValueError, match="in no episode"):
        success_under_failure({"black": [(0, 0, 0)]})


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(
        ValueError, match=r"counts: there are none to draw; give at least one, as name -> \(successes, ep"
    ):
        success_with_intervals({})
    with pytest.raises(ValueError, match="curves: there are none to draw; give at least one"):
        success_under_failure({})
    with pytest.raises(ValueError, match=r"curves: 'black' has no measurement; give one as .*, or leave it out"):
        success_under_failure({"frozen": [(0, 1, 2)], "black": []})


def test_long_names_leave_the_label_whole() -> None:
    name = "a very very long name of a condition that has many words in it, and then some more of them"
    for figure in (
        success_with_intervals({"told": (94, 100), name: (25, 100)}),
        success_with_intervals({"told": (94, 100)}, name),
        success_under_failure({f"failure of something {i}": [(0, 1, 2)] for i in range(14)}),
        success_under_failure({name: [(0, 1, 2)], f"{name}!": [(0, 1, 2)]}),
    ):
        figure.draw_without_rendering()
        texts = [*figure.axes[0].get_yticklabels(), figure.axes[0].xaxis.label]
        texts += figure.axes[0].get_legend().get_texts() if figure.axes[0].get_legend() else []
        for text in texts:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0, text.get_text()
    assert "".join(text.get_text() for text in texts).replace("\n", " ").count(name) == 2, "nothing of it is left out"


def test_more_curves_than_colours_are_told_apart() -> None:
    lines = success_under_failure({f"failure {i}": [(0, i, 20)] for i in range(14)}).axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 14


def test_curves_of_black_cameras() -> None:
    def row(kind: str, modality: str, success: float, durations: dict[str, float | None]) -> dict[str, Any]:
        each = {key: {"n_episodes": 0 if share is None else 4, "pc_success": share} for key, share in durations.items()}
        told = {"kind": kind, "modality": modality, "envelope": True, "n_episodes": 8, "pc_success": success}
        return {**told, "per_duration": each}

    clean = row("none", "", 87.5, {})
    black = row("black", "images.front+images.wrist", 50.0, {"5": 75.0, "15": None, "None": 25.0})
    assert black_cameras({"failures": [clean, black, row("white", "images.front", 0.0, {"5": 0.0})]}) == {
        "front and wrist, with envelope": [(0, 7, 8), (5, 3, 4), (TO_THE_END, 1, 4)]
    }
    assert black_cameras({"failures": [clean]}) == {}
