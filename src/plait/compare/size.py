"""Equal size: the width of a fusion at which the whole policy has as many parameters as the reference."""

from dataclasses import dataclass, fields, replace

import torch

from plait.diagnose.cost import parameters
from plait.encoders.tokenizer import Tokenizer
from plait.fusion import Fusion
from plait.policy import PolicyConfig
from plait.spec import Spec

STEP, WIDEST = 8, 2048  # widths are multiples of STEP, which every number of heads divides
TOLERANCE = 0.1  # of the reference's count


@dataclass(frozen=True)
class Sized:
    """A policy and how far its number of parameters is from the reference's, ``off``: 0.03 is 3 % more."""

    policy: PolicyConfig
    parameters: int
    off: float

    @property
    def width(self) -> int:
        return self.policy.fusion.width

    @property
    def equal(self) -> bool:
        return abs(self.off) <= TOLERANCE


def equalised(reference: PolicyConfig, fusion: type, spec: Spec, tokenizer: Tokenizer) -> Sized:
    """``reference`` with another fusion, its ``width`` found by bisection; other fields of the fusion keep their
    defaults. It is the closest there is, which may still be off by more than TOLERANCE.

    Args:
        fusion: config class; the reference's own is left as it is.
        spec, tokenizer: of the data; what is seen, moved and said takes parameters too.

    Raises:
        ValueError: the fusion's config has no ``width``.
    """
    language, tokenizer = reference.language.resolve(tokenizer)
    reference = replace(reference, language=language)
    target = _count(reference, spec, tokenizer)
    if isinstance(reference.fusion, fusion):
        return Sized(reference, target, 0.0)

    if "width" not in {field.name for field in fields(fusion)}:
        raise ValueError(f"{fusion.__name__} has no field width, by which sizes are made equal; give it one")

    def at(width: int) -> tuple[PolicyConfig, int]:
        part: Fusion = fusion(width=width)
        policy = replace(reference, fusion=part)
        return policy, _count(policy, spec, tokenizer)

    low, high = 1, WIDEST // STEP
    while low < high:  # the smallest width that reaches the target
        middle = (low + high) // 2
        low, high = (low, middle) if at(STEP * middle)[1] >= target else (middle + 1, high)
    candidates = [at(STEP * width) for width in {max(1, low - 1), low}]
    policy, count = min(candidates, key=lambda candidate: abs(candidate[1] - target))
    return Sized(policy, count, count / target - 1)


def _count(policy: PolicyConfig, spec: Spec, tokenizer: Tokenizer) -> int:
    with torch.device("meta"):  # shapes without memory
        return parameters(policy.build(spec, tokenizer, pretrained=False))
