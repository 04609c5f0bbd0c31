"""The engine: whatever is computed together, each robot gets what it would get alone."""

import copy
import gc
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plait.memory import RecurrentConfig
from plait.safety.calibrate import pooled
from plait.serve.batching import Answer, Engine, Question, responsive
from policies import random_observation, small_policy

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def answers(engine: Engine, questions: list[Question]) -> list[Answer]:
    found = engine(questions)
    assert all(isinstance(answer, Answer) for answer in found), found
    return found  # type: ignore[return-value]


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_row_of_a_batch_is_what_it_is_alone(device: str) -> None:
    policy = small_policy().to(device)
    moments = [random_observation(1, seed, size=size) for seed, size in ((0, 32), (1, 48), (2, 32))]
    wanted = [policy.predict(policy.prepare(moment))[0].cpu().numpy() for moment in moments]
    features = [pooled(policy, policy.prepare(moment))[0] for moment in moments]
    engine = Engine(policy, batch=4)
    engine.warm_up()
    for _ in range(2):
        for found, chunk, feature in zip(answers(engine, list(map(Question, moments))), wanted, features, strict=True):
            close(found.chunk, chunk)
            close(found.features, feature)


@pytest.mark.parametrize("device", DEVICES)
def test_memories_are_not_mixed(device: str) -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3)).to(device)
    engine = Engine(policy, batch=4)
    engine.warm_up()

    def alone(seeds: list[int]) -> np.ndarray:
        state, chunk = policy.start(1), torch.zeros(0)
        for place, seed in enumerate(seeds):
            inputs = policy.prepare(random_observation(1, seed))
            chunk, state = policy.step(inputs, state, torch.tensor([place == 0]))
        return chunk[0].cpu().numpy()

    memories = [policy.start(1), policy.start(1), policy.start(1)]
    for step in range(3):
        asked = [Question(random_observation(1, 10 * row + step), memories[row], step == 0) for row in range(3)]
        found = answers(engine, asked)
        memories = [answer.memory for answer in found]
    for row in range(3):
        close(found[row].chunk, alone([10 * row, 10 * row + 1, 10 * row + 2]))


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_what_autocast_computes(device: str) -> None:
    policy = small_policy().to(device)
    moments = [random_observation(1, seed) for seed in range(2)]
    with torch.autocast(device, torch.bfloat16):
        wanted = [policy.predict(policy.prepare(moment))[0] for moment in moments]
    engine = Engine(copy.deepcopy(policy), batch=2, precision="bfloat16")
    for found, chunk in zip(answers(engine, list(map(Question, moments))), wanted, strict=True):
        np.testing.assert_allclose(found.chunk, chunk.cpu().numpy(), atol=0.03)  # a batch sums up in another order
    exact = policy.predict(policy.prepare(moments[0]))[0]
    assert not torch.equal(wanted[0], exact), "it was multiplied in another format"


COMPILED = """
from functools import partial
import torch
from plait.serve.batching import Engine, Question
from policies import random_observation, small_policy
policy = small_policy()
wanted = [policy.predict(policy.prepare(random_observation(1, seed)))[0].numpy() for seed in range(3)]
torch.compile = partial(torch.compile, backend="eager")  # what is traced, without a minute of C++
engine = Engine(policy, batch=4, compiled=True)
engine.warm_up()
torch.compiler.set_stance("fail_on_recompile")
for rows in (1, 2, 3):
    for answer, chunk in zip(engine([Question(random_observation(1, seed)) for seed in range(rows)]), wanted):
        print(abs(answer.chunk - chunk).max() < 1e-4)
"""


def test_a_policy_is_compiled_once_for_any_number_of_robots() -> None:
    here = Path(__file__).parents[1]  # in a process of its own: the compiler cannot trace the checks that tests install
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, cwd=here)
    assert result.stdout.split() == ["True"] * 6, result.stderr


def test_a_policy_that_cannot_be_compiled_is_refused_before_the_port_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(ValueError, match=r"compile: Invalid.* found; install what is missing, or serve without"):
        Engine(small_policy(), compiled=True).warm_up()


def test_what_is_wrong_with_one_question_is_its_own_answer() -> None:
    policy = small_policy()
    good = random_observation(1)
    bad = replace(good, state=np.full((1, 8), np.nan, np.float32))
    found = Engine(policy)([Question(good), Question(bad), Question(good)])
    assert isinstance(found[1], ValueError) and "must be finite" in str(found[1])
    for place in (0, 2):
        assert isinstance(found[place], Answer)
        close(found[place].chunk, policy.predict(policy.prepare(good))[0])


def test_a_sentence_is_encoded_once() -> None:
    policy, heard = small_policy(), []
    policy.encoder.language.register_forward_hook(lambda module, arguments, tokens: heard.append(len(arguments[0])))
    engine = Engine(policy)
    for seed in range(4):
        moment = random_observation(1, seed)
        answers(engine, [Question(moment), Question(replace(moment, instruction=["빨간 공을 집어줘"]))])
    assert heard == [1, 1]


def test_garbage_is_looked_for_only_in_what_is_new_while_a_robot_waits() -> None:
    with responsive():
        assert gc.get_freeze_count() > 10_000, "torch alone is more than that"
    assert gc.get_freeze_count() == 0
