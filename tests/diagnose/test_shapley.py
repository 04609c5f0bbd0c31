"""Shapley values of games that are known, and the orders that they are a mean over."""

import pytest
import torch

from plait.diagnose import shapley as module
from plait.diagnose.shapley import orders, shapley
from plait.diagnose.subject import Subject
from plait.spec import Spec
from policies import small_policy

SPEC = Spec({"a": (16, 16)}, ("x",), ("move",))  # modalities: images.a, state, instruction


@pytest.mark.parametrize(
    ("succeeds", "points"),
    [
        (lambda present: {"images.a", "instruction"} <= present, (50, 0, 50)),  # both are needed
        (lambda present: bool({"images.a", "state"} & present), (50, 50, 0)),  # one of two is enough
        (lambda present: True, (0, 0, 0)),
    ],
)
def test_values_are_those_of_the_game(monkeypatch, succeeds, points):
    subject = Subject(small_policy(spec=SPEC, image_size=16), "nowhere", {})
    asked = []

    def success(subject, present):
        asked.append(present)
        return torch.full((10,), float(succeeds(present)))

    monkeypatch.setattr(module, "_success", success)
    values = shapley(subject)
    assert tuple(value.points for value in values.values()) == pytest.approx(points)
    assert all(value.low == value.high == pytest.approx(value.points) for value in values.values())
    assert len(asked) == len(set(asked)) == 2**3


def test_of_many_modalities_some_orders_are_drawn_with_their_reverses():
    few, names = list(orders(("a", "b", "c", "d"), 0)), ("a", "b", "c", "d", "e")
    assert len(set(few)) == 24
    some = list(orders(names, 0))
    assert some == list(orders(names, 0)) != list(orders(names, 1))
    assert all(set(order) == set(names) for order in some)
    assert some[1::2] == [order[::-1] for order in some[::2]]
