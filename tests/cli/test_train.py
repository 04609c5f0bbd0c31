"""``plait train``: how parts are swapped by a word."""

from plait.cli.train import swap_parts
from plait.fusion import EarlyConfig
from plait.policy import PolicyConfig


def test_a_part_is_swapped_by_its_option_and_what_only_looks_alike_stays() -> None:
    config, rest = swap_parts(PolicyConfig(), ["--fusion=early", "--env-args", "language=ko", "--fusion.width", "8"])
    assert config.fusion == EarlyConfig()
    assert rest == ["--env-args", "language=ko", "--fusion.width", "8"]
