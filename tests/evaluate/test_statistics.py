from math import isclose

import pytest

from plait.evaluate.statistics import by_tier, difference, grouped, manipulated, mean_of_tiers, share, summarise, wilson

Z2 = 1.959963984540054**2


def test_wilson_has_its_closed_forms():
    # With all or none successful the bounds are n / (n + z^2) and z^2 / (n + z^2).
    for n in (1, 10, 200):
        assert isclose(wilson(n, n)[0], n / (n + Z2), rel_tol=1e-12)
        assert wilson(n, n)[1] == 1.0
        assert isclose(wilson(0, n)[1], Z2 / (n + Z2), rel_tol=1e-12)
        assert wilson(0, n)[0] == 0.0
    # At one half it is symmetric: half width z / (2 sqrt(n + z^2)).
    low, high = wilson(50, 100)
    assert isclose(high - 0.5, 0.5 - low, rel_tol=1e-12)
    assert isclose(high - low, (Z2 / (100 + Z2)) ** 0.5, rel_tol=1e-12)


def test_wilson_agrees_with_published_values():
    low, high = wilson(81, 263)  # Newcombe, Statistics in Medicine 17 (1998), table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson(15, 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)


def test_wilson_refuses_nonsense_and_knows_nothing_of_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)


def test_share_is_in_percent_and_none_without_episodes():
    assert share([True, True, False, False])["pc_success"] == 50.0
    assert share([]) == {"pc_success": None, "pc_success_ci95": [0.0, 100.0]}


def row(**facts):
    return {
        "success": True,
        "steps": 10,
        "target": "red ball",
        "first_named": "blue cube",
        "lifted": "red ball",
    } | facts


def test_which_object_was_manipulated_depends_on_the_family():
    assert manipulated(row(lifted="red ball,blue cube", moved="green ball")) == {"red ball", "blue cube"}
    assert manipulated(row(family="push", lifted="", moved="green ball")) == {"green ball"}
    assert manipulated(row(lifted="")) == set()


def test_summary_tells_obedience_from_habit():
    rows = [row(), row(), row(lifted="blue cube", success=False), row(lifted="", success=False, steps=60)]
    summary = summarise(rows)
    assert summary["n_episodes"] == 4
    assert summary["pc_success"] == 50.0
    assert summary["pc_named"] == 50.0
    assert summary["pc_first_named"] == 25.0
    assert summary["mean_steps"] == 22.5


def test_environments_that_name_no_target_have_no_such_share():
    assert summarise([{"success": True, "steps": 3}])["pc_named"] is None


def test_groups_partition_the_episodes():
    rows = [row(split="seen"), row(split="unseen", success=False), row(split="seen"), row()]
    groups = grouped(rows, "split")
    assert list(groups) == ["seen", "unseen"]
    assert (groups["seen"]["n_episodes"], groups["unseen"]["pc_success"]) == (2, 0.0)


def test_the_interval_of_a_difference_is_newcombes():
    """His table II, method 10: 56/70 against 48/80, and 9/10 against 3/10."""
    for (a, n), (b, m), low, high in (((56, 70), (48, 80), 5.24, 33.39), ((9, 10), (3, 10), 17.05, 80.90)):
        one, other = (share([True] * hits + [False] * (of - hits)) for hits, of in ((a, n), (b, m)))
        assert difference(one, other) == pytest.approx((low, high), abs=0.02)
        assert difference(other, one) == pytest.approx((-high, -low), abs=0.02)


def test_the_mean_of_tiers_does_not_weigh_them_by_their_episodes() -> None:
    rows = [{"tier": "easy", "success": True}] * 30 + [{"tier": "hard", "success": i < 5} for i in range(10)]
    found = mean_of_tiers(rows)
    assert found["pc_success"] == 75.0 and {tier: x["pc_success"] for tier, x in by_tier(rows).items()} == {
        "easy": 100.0,
        "hard": 50.0,
    }
    low, high = found["pc_success_ci95"]
    assert low < 75 < high and high - low < 30  # that of the worse tier is 53 wide
    assert mean_of_tiers([{"success": True}]) == {"pc_success": None, "pc_success_ci95": [0.0, 100.0]}
