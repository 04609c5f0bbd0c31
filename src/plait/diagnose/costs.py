"""What does it cost? Parameters, arithmetic, time and memory of each part of the policy, for one robot."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from plait.diagnose import page
from plait.diagnose.cost import Cost, cost_cells, measure, parameters
from plait.diagnose.scenes import views
from plait.diagnose.shown import spoken
from plait.diagnose.subject import Answer, Subject, Tone
from plait.memory.join import remember
from plait.nn.device import hardware
from plait.policy import Policy
from plait.spec import INSTRUCTION, STATE, camera_modality
from plait.types import Inputs

QUESTION = "What does it cost?"
SECONDS = 0.5  # for which each part is called; the whole, on which the verdict rests, is called for longer
Part = tuple[nn.Module, Callable[[], Any]]


def ask(subject: Subject) -> Answer:
    """Measure the whole policy, from an observation to a chunk, and each of its parts on the first scene, on the
    subject's device.
    """
    policy, observation = subject.policy.eval(), views(subject, 1).observation
    inputs, device = policy.prepare(observation).to(policy.device), policy.device
    with torch.inference_mode():
        every = parts(policy, inputs).items()
        found = {name: measure(module, call, device, SECONDS) for name, (module, call) in every}
    found["preparation (resizing, words to numbers)"] = measure(
        nn.Identity(), lambda: policy.prepare(observation), torch.device("cpu"), SECONDS
    )
    whole = measure(policy, lambda: policy.predict(policy.prepare(observation)), device)
    training_only = 0 if policy.keyframe is None else parameters(policy.keyframe)
    available = 1000 * policy.config.execute / policy.spec.rate if policy.spec.rate else None
    text, tone = judge(whole, found, available, hardware(str(device)))
    numbers = {"whole": asdict(whole), "parts": {name: asdict(cost) for name, cost in found.items()}}
    numbers |= {"available_ms": available, "training_only_parameters": training_only, "device": hardware(str(device))}
    return Answer(QUESTION, text, tone, numbers, tuple(_shown(whole, found, training_only)))


def parts(policy: Policy, inputs: Inputs) -> dict[str, Part]:
    """Name -> the part, and a call of it on what it is given when the policy acts."""
    encoder, groups = policy.encoder, policy.encode(inputs)
    tokens, state = policy.fusion(groups).tokens, policy.normalise_state.normalise(inputs.state)
    given: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {
        camera_modality(camera): (module, (inputs.images[camera],)) for camera, module in encoder.cameras.items()
    }
    given |= {} if encoder.state is None else {STATE: (encoder.state, (state,))}
    given[INSTRUCTION] = encoder.language, (inputs.words, inputs.word_mask)
    found: dict[str, Part] = {
        f"encoder of {spoken(name)}": (part, _call(part, *values)) for name, (part, values) in given.items()
    }
    found["fusion"] = _module(policy.fusion), _call(policy.fusion, groups)
    if (memory := policy.memory) is not None:
        start, begins = memory.start(1), torch.ones(1, dtype=torch.bool, device=policy.device)
        found["memory"] = _module(memory), lambda: remember(memory, tokens, start, begins)
    acted = policy.remember(policy.fuse(inputs), inputs)
    found["head"] = _module(policy.head), lambda: policy.head.act(acted)
    return found


def judge(whole: Cost, found: dict[str, Cost], available: float | None, device: str) -> tuple[str, Tone]:
    """The verdict: is it fast enough for its robot, and what takes the time."""
    longest = max(found, key=lambda name: found[name].p50_ms)
    size = f"It has {whole.parameters / 1e6:.2f} million parameters"
    time = f"decides in {whole.p50_ms:.1f} ms on {device} (99th percentile: {whole.p99_ms:.1f})"
    most = f"Of its parts, the {longest} takes longest."
    if available is None:
        return f"{size} and {time}. {most}", "plain"
    left = f"of the {available:.0f} ms until it has to decide anew"
    if whole.p99_ms <= available:
        return f"{size} and {time}, {left}. {most}", "good"
    if whole.p50_ms <= available:
        doubt = "It is fast enough for its robot most of the time, but not always (so it looks on a busy machine too)"
        return f"{doubt}: it {time}, {left}. {size}. {most}", "plain"
    return f"It is too slow for its robot: it {time}, {left}. {size}. {most}", "bad"


def _call(module: Any, *given: Any) -> Callable[[], Any]:
    return lambda: module(*given)


def _module(part: object) -> nn.Module:
    assert isinstance(part, nn.Module)
    return part


def _shown(whole: Cost, found: dict[str, Cost], training_only: int) -> list[str]:
    rows = [(name, *cost_cells(cost, unit=1e6)) for name, cost in [*found.items(), ("whole", whole)]]
    header = ("part", "parameters", "MFLOPs", "median", "99th percentile", "peak memory")
    text = (
        "One decision for one robot, from its pictures, state and words to its actions: the whole has the preparation "
        "in it, but no way from and to the robot. Operations are counted in matrix products, convolutions, "
        "attention and recurrent layers; memory is what a call takes besides the weights and what it is given. The "
        "times of the parts do not add up to that of the whole, which runs them one after another without waiting for "
        "each."
    )
    if training_only:
        text += f" An auxiliary head of {training_only / 1e6:.2f} million parameters is used in training alone."
    return [page.prose(text), page.table("What each part costs", header, rows)]
