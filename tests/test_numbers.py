"""Every number of every config has a range, and what is outside is refused where the config is made."""

from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest

from plait.config import members, part_name, refuse_outside
from plait.data.augment import Augment
from plait.encoders.state import StateConfig
from plait.encoders.vision import PatchConfig
from plait.fusion import FilmConfig
from plait.heads import RegressionConfig
from plait.heads.keyframe import KeyframeConfig
from plait.policy import PolicyConfig
from plait.train.config import TrainConfig
from plait.train.modulation import Modulation
from policies import UNIONS, part

SINGLE = [TrainConfig(), Augment(), Modulation(), PolicyConfig(), StateConfig(), KeyframeConfig()]
CONFIGS = SINGLE + [part(slot, name) for slot, union in UNIONS.items() for name in members(union)]
ELSEWHERE = {"timm.scales"}  # counted from the last, so they are negative; the encoder knows which there are
MAY_BE_ZERO = {
    *("depth", "actions", "regression.layers", "mixture.layers", "bottleneck.layers"),
    *("train.warmup_steps", "train.seed", "train.imbalance_every", "augment.shift"),
}
TOO_MUCH = [
    (RegressionConfig, "dropout", 1.0, "too large; at least 0 and below 1"),
    (TrainConfig, "modality_dropout", 1.0, "too large; at least 0 and below 1"),
    (TrainConfig, "ema_decay", 1.5, "too large; at least 0 and below 1"),
    (Augment, "contrast", 1.1, "too large; at least 0 and at most 1"),
    (Modulation, "until", 2.0, "too large; at least 0 and at most 1"),
    (KeyframeConfig, "ahead", 3, "too large; at least 1 and at most 2"),
    (TrainConfig, "learning_rate", 0.0, "too small; above 0"),
    (PatchConfig, "stride", 9, r"too large; at most patch \(8\)"),
    (FilmConfig, "stages", (48, 0), "too small; at least 1"),
]


def impossible() -> Iterator[Any]:
    """A config, the name of a field, and a value that it cannot have."""
    for config in CONFIGS:
        for name, hint in get_type_hints(type(config)).items():
            full = f"{part_name(type(config))}.{name}"
            values: list[Any] = []
            if hint is int or hint == tuple[int, ...]:
                values = [-1] if {name, full} & MAY_BE_ZERO else [0, -1]
            elif float in (hint, *get_args(hint)):
                values = [-0.5, float("nan"), float("inf")]
            for value in values if full not in ELSEWHERE else []:
                given = (value,) if hint == tuple[int, ...] else value
                yield pytest.param(config, name, given, id=f"{full}={value}")


@pytest.mark.parametrize(("config", "name", "value"), list(impossible()))
def test_a_number_outside_of_its_range_is_named_with_the_rule(config: Any, name: str, value: Any) -> None:
    number = value[0] if isinstance(value, tuple) else value
    rule = "is too small; (at least|above) |is not finite; (at least|above) |is not between "
    with pytest.raises(ValueError, match=rf"{name}: {number} ({rule})"):
        replace(config, **{name: value})


@pytest.mark.parametrize(("kind", "name", "value", "rule"), TOO_MUCH)
def test_a_range_may_have_an_upper_end_and_may_leave_out_its_ends(kind: Any, name: str, value: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: [\d.]+ is {rule}"):
        kind(**{name: value})


def test_the_ends_that_belong_to_a_range_and_numbers_of_the_other_kind_are_taken() -> None:
    assert RegressionConfig(dropout=0, layers=0).dropout == 0  # a whole number where a fraction may stand
    assert Augment(contrast=1.0, shift=0).contrast == 1
    assert KeyframeConfig(ahead=2).ahead == 2 and Modulation(until=1).until == 1


def test_every_config_with_numbers_is_among_those_checked() -> None:
    nested = {kind for config in (TrainConfig, PolicyConfig) for kind in _inside(config)}
    assert nested <= {type(config) for config in CONFIGS}


def _inside(config: type) -> Iterator[type]:
    for hint in get_type_hints(config).values():
        yield from (kind for kind in (hint, *get_args(hint)) if is_dataclass(kind) and isinstance(kind, type))


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"patch\.patch: 16 is too large for images of 8 pixels"):
        PatchConfig(patch=16, stride=16).build((8, 8))
    with pytest.raises(ValueError, match=r"film\.conditions: \(\) names no modality; say instruction"):
        FilmConfig(conditions=())


def test_a_flag_is_no_number() -> None:
    refuse_outside(Modulation(noise=False))
