import pytest

from plait.diagnose.success import success_under_failure, success_with_intervals
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
