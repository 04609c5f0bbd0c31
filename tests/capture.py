"""Compiles and exports every part, and prints the name of each; run by test_contract.py.

Each member of a union on its own, with one camera and shallow, since a second layer is traced like the first; and whole
policies, one without a memory and one with each of them. A few of the random combinations of parts are exported only.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from plait.fusion import LateConfig, UnifiedConfig
from plait.heads import DiscreteConfig, FlowConfig
from plait.memory import RecurrentConfig
from plait.types import Shape, Tokens
from policies import COMBINATIONS, EXPORTED, SINGLE, SPEC, random_batch, small_policy

FEW = {"layers": 1, "steps": 2}
CAMERA = replace(SPEC, cameras={"front": (32, 32)})
TOKENS = Tokens(torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool))
FORMS = {  # that no default takes
    "head=causal": DiscreteConfig(form="causal", width=16, layers=1),
    "head=drawn": FlowConfig(steps=1, layers=1, drawn=True),
}
torch.export.register_dataclass(Tokens)


class Alone(nn.Module):
    """A part, and how it is called."""

    def __init__(self, part: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.part, self.call = part, call

    def forward(self, *inputs: Any) -> Tensor:
        return self.call(self.part, *inputs)


def encoded(encoder: nn.Module, *inputs: Any) -> Tensor:
    return torch.cat([tokens.data.flatten() for tokens in encoder(*inputs).values()])


def fused(fusion: nn.Module, groups: dict[str, Tokens]) -> Tensor:
    return fusion(groups).tokens.data


def acted(head: nn.Module, tokens: Tokens) -> Tensor:
    return head.act(tokens)


def remembered(memory: nn.Module, *arguments: Any) -> Tensor:
    return memory(*arguments)[0]


def shallow(config: Any) -> Any:
    return replace(config, **{f.name: FEW[f.name] for f in fields(config) if f.name in FEW})


def single(field: str, config: Any) -> tuple[nn.Module, Any]:
    """The module that holds one member of a union, and its inputs."""
    policy = small_policy(spec=CAMERA, **{"fusion": LateConfig(), field: shallow(config)})
    inputs = random_batch(policy).inputs
    if field == "memory":
        return policy, (inputs,)
    if field in ("vision", "language"):
        return Alone(policy.encoder, encoded), (inputs,)
    if field == "fusion":
        return Alone(policy.fusion, fused), (policy.encode(inputs),)
    return Alone(policy.head, acted), (policy.fuse(inputs).tokens,)


def modules() -> Iterator[tuple[str, nn.Module, tuple[Any, ...]]]:
    policy = small_policy()
    yield "policy", policy, (random_batch(policy).inputs,)
    for name, parts in SINGLE.items():
        yield name, *single(*next(iter(parts.items())))
    yield "fusion=actions", *single("fusion", UnifiedConfig(actions=8))
    for name, head in FORMS.items():
        yield name, Alone(head.build(Shape(4, 8), 2, 1), acted), (TOKENS,)
    memory = RecurrentConfig(2, cell="gru").build(6, 5)
    yield "memory=gru", Alone(memory, remembered), (torch.randn(3, 2, 6), memory.start(3), torch.rand(3, 2) > 0.7)


def combinations() -> Iterator[tuple[str, nn.Module, tuple[Any, ...]]]:
    for name in EXPORTED:
        parts = COMBINATIONS[name]
        policy = small_policy(spec=CAMERA, **{field: shallow(config) for field, config in parts.items()})
        yield name, policy, (random_batch(policy).inputs,)


def compiled(module: nn.Module, _: tuple[Any, ...]) -> Callable[..., Tensor]:
    torch._dynamo.reset()
    return torch.compile(module, fullgraph=True, backend="aot_eager")


def exported(module: nn.Module, inputs: tuple[Any, ...]) -> Callable[..., Tensor]:
    return torch.export.export(module, inputs).module()


def capture(module: nn.Module, inputs: tuple[Any, ...], ways: tuple[Callable, ...] = (compiled, exported)) -> None:
    """Compiled in one graph and exported, it does what it does."""
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=True):  # the compiler asks before it takes an LSTM
        results = []
        for call in (module.eval(), *(way(module, inputs) for way in ways)):
            torch.manual_seed(0)  # some heads draw
            results.append(call(*inputs))
    torch.testing.assert_close(results[1:], [results[0]] * len(ways))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, module, inputs in modules():
        capture(module, inputs)
        print(name, flush=True)
    for name, module, inputs in combinations():
        capture(module, inputs, (exported,))
        print(name, flush=True)
