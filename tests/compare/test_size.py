from dataclasses import dataclass, replace

import pytest

from plait.compare.size import equalised
from plait.config import members
from plait.diagnose.cost import parameters
from plait.encoders.tokenizer import Tokenizer
from plait.fusion import EarlyConfig, FilmConfig, Fusion, UnifiedConfig
from plait.policy import PolicyConfig
from policies import SENTENCES, SPEC

TOKENIZER = Tokenizer.build(SENTENCES)


@pytest.mark.parametrize("name", members(Fusion))
def test_every_fusion_reaches_the_size_of_the_reference(name: str) -> None:
    sized = equalised(PolicyConfig(), members(Fusion)[name], SPEC, TOKENIZER)
    assert sized.equal and abs(sized.off) <= 0.1
    assert parameters(sized.policy.build(SPEC, TOKENIZER)) == sized.parameters


def test_no_neighbouring_width_is_closer() -> None:
    sized = equalised(PolicyConfig(), UnifiedConfig, SPEC, TOKENIZER)
    for width in (sized.width - 8, sized.width + 8):
        other = parameters(replace(sized.policy, fusion=UnifiedConfig(width=width)).build(SPEC, TOKENIZER))
        target = sized.parameters / (1 + sized.off)
        assert abs(other - target) >= abs(sized.parameters - target)


def test_the_reference_stays_as_it_is() -> None:
    reference = PolicyConfig(fusion=FilmConfig(width=123))
    assert equalised(reference, FilmConfig, SPEC, TOKENIZER).policy == reference


def test_a_size_that_is_out_of_reach_is_told() -> None:
    reference = PolicyConfig(fusion=EarlyConfig(stages=(4,), cells=1, width=8))
    assert not equalised(reference, UnifiedConfig, SPEC, TOKENIZER).equal


def test_a_fusion_without_a_width_is_refused() -> None:
    with pytest.raises(ValueError, match="Narrow has no field width, by which sizes are made equal; give it one"):
        equalised(PolicyConfig(), Narrow, SPEC, TOKENIZER)


@dataclass(frozen=True)
class Narrow:
    """A config as docs/add-a-part.md allows it."""

    dim: int = 8
