"""Numbers outside their range are named with the rule."""

import pytest

from plait.train.config import TrainConfig


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("steps", 0, "at least 1"),
        ("learning_rate", 0.0, "above 0"),
        ("seed", -1, "at least 0"),
        ("ema_decay", 1.0, "at least 0 and below 1"),
        ("val_fraction", -0.1, "at least 0 and below 1"),
    ],
)
def test_value_out_of_range(field: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"train\.{field}: {value} is too (small|large); {rule}$"):
        TrainConfig(**{field: value})
