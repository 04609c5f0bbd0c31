"""One policy on one device, for several robots: what they ask at about the same time is computed together."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from queue import Empty, SimpleQueue
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from plait.encoders.recall import Recall
from plait.memory.history import History
from plait.nn.device import Precision, current
from plait.nn.pooling import masked_mean
from plait.nn.replay import WARM_UP, Replay
from plait.policy import Policy
from plait.types import Fused, Inputs, Observation

SWITCH_S = 2e-4  # how long one thread of Python may keep another one waiting; 5 ms by default
CLOSE_S = 5.0  # how long the end waits for the engine


class Hung(RuntimeError):
    """The engine does not return; its thread goes on, and keeps the process from an ordinary end."""


class Failed(RuntimeError):
    """The engine raised an error that is no refusal of one observation, as when its device is lost."""


@dataclass(frozen=True)
class Question:
    """One robot's moment: an observation of one row, what was remembered before it, and whether its episode begins."""

    observation: Observation
    memory: History | None = None
    reset: bool = False


@dataclass(frozen=True)
class Answer:
    """What the policy says to one question.

    Attributes:
        chunk: in the units of the ``Spec``.
        features: the fused ones, averaged over their tokens.
        memory: what is remembered from here on.
        infer_ms: how long it took, with the others of its batch.
    """

    chunk: Float[np.ndarray, "horizon a"]
    features: Float[np.ndarray, " d"]
    memory: History | None
    infer_ms: float


class Engine:
    """Answers questions, up to ``batch`` at once. One thread at a time may call it.

    Each distinct sentence is encoded once. On a GPU pictures are resized there, and the rest of the policy is recorded
    as one CUDA graph for 1, 2, 4, ... robots, ``batch`` at last; a batch in between is filled up. The policy is the
    engine's from here on.

    Args:
        policy: on its device.
        batch: questions that are computed together at most.
        compiled: ``torch.compile`` the policy for any number of rows.
        precision: see ``Policy.convert``.
    """

    def __init__(
        self, policy: Policy, batch: int = 16, compiled: bool = False, precision: Precision = "float32"
    ) -> None:
        self.policy, self.batch, self.compiled = policy.eval(), batch, compiled
        if compiled:
            policy.compile(dynamic=True)
        policy.convert(precision)
        self._recall = Recall(policy.encoder.language)
        self._features: Tensor | None = None
        cast(nn.Module, policy.fusion).register_forward_hook(self._keep)
        self._sizes = range(1, batch + 1)
        self._step: Callable[[int], Callable[[Any], Any]] = lambda rows: self._compute
        if policy.device.type == "cuda":
            self._sizes = sorted({*(2**n for n in range(batch.bit_length()) if 2**n <= batch), batch})
            graphs = {size: Replay(self._compute) for size in self._sizes}
            self._step = graphs.__getitem__

    def warm_up(self) -> None:
        """Every size of batch is computed until it is as fast as it will be. May take some seconds on a GPU, and half a
        minute where the policy is compiled.

        Raises:
            ValueError: it cannot be compiled.
        """
        try:
            self._warm_up()
        except RuntimeError as error:
            if not self.compiled:
                raise
            why = str(error).partition("\n")[0]
            raise ValueError(f"compile: {why}; install what is missing, or serve without --compile") from error

    def _warm_up(self) -> None:
        spec = self.policy.spec
        images = {name: np.zeros((1, *size, 3), np.uint8) for name, size in spec.cameras.items()}
        state = np.zeros((1, len(spec.state)), np.float32) if spec.state else None
        question = Question(Observation(images, state, [""]), self.policy.start(1), True)
        every = self.compiled or self.policy.device.type == "cuda"  # the compiler has other code for some sizes
        for size in self._sizes if every else {1, self.batch}:
            for _ in range(WARM_UP + 1):
                self([question] * size)

    def __call__(self, questions: list[Question]) -> list[Answer | Exception]:
        """An answer for each; what is wrong with one question is its own answer and does not touch the others."""
        start = time.perf_counter()
        found: list[Answer | Exception] = [AssertionError("not answered")] * len(questions)
        prepared: dict[int, Inputs] = {}
        for row, question in enumerate(questions):
            try:
                prepared[row] = self._prepare(question.observation)
            except Exception as error:
                found[row] = error
        if prepared:
            asked = [questions[row] for row in prepared]
            told = self._batch(list(prepared.values()), asked)
            infer_ms = 1e3 * (time.perf_counter() - start)
            for row, answer in zip(prepared, told, strict=True):
                found[row] = Answer(*answer, infer_ms)
        return found

    def _prepare(self, observation: Observation) -> Inputs:
        """The pictures on the policy's device, which resizes them faster where it is a GPU."""
        device, observation = self.policy.device, writable(observation)
        images = {camera: torch.as_tensor(image).to(device) for camera, image in observation.images.items()}
        inputs = self.policy.prepare(replace(observation, images=images))
        return replace(inputs, images={camera: image.to(device) for camera, image in inputs.images.items()})

    def _batch(self, inputs: list[Inputs], questions: list[Question]) -> list[tuple[np.ndarray, np.ndarray, Any]]:
        """Of each row the chunk, the features and the memory."""
        rows = len(inputs)
        size = next(size for size in self._sizes if size >= rows)
        filled = [*range(rows), *[0] * (size - rows)]
        device = self.policy.device
        told = self.policy.tell(_joined([inputs[row] for row in filled]), self._recall)
        argument: dict[str, Any] = {"inputs": told}
        argument["reset"] = torch.tensor([questions[row].reset for row in filled]).to(device, non_blocking=True)
        if self.policy.memory is not None:
            histories = [questions[row].memory or self.policy.start(1) for row in filled]
            argument["memory"] = History(*(torch.cat([getattr(h, f.name) for h in histories]) for f in fields(History)))
        with current(device):
            found = self._step(size)(argument)
            chunks, features = found["chunk"].cpu().numpy(), found["features"].cpu().numpy()
        memories: list[History | None] = [None] * rows
        if "vectors" in found:
            memories = [History(found["vectors"][i : i + 1], found["mask"][i : i + 1]) for i in range(rows)]
        return list(zip(chunks[:rows], features[:rows], memories, strict=True))

    def _compute(self, argument: dict[str, Any]) -> dict[str, Tensor]:
        """Tensors in and out, so that it can be recorded."""
        chunk, memory = self.policy.step(argument["inputs"], argument.get("memory"), argument["reset"])
        assert self._features is not None
        found = {"chunk": chunk, "features": self._features}
        return found if memory is None else found | {"vectors": memory.vectors, "mask": memory.mask}

    def _keep(self, module: nn.Module, arguments: Any, fused: Fused) -> None:
        """The fusion has computed what the envelope looks at too."""
        self._features = masked_mean(fused.tokens).float()


@dataclass(frozen=True)
class Asked:
    """A question on its way.

    Attributes:
        expected: how many sessions ask regularly at that time.
        answer: is told in the event loop.
    """

    question: Question
    expected: int
    answer: asyncio.Future[Answer | None]


class Batcher:
    """Collects what several sessions ask while the engine is busy, and waits a little for those who are about to. A
    question goes straight to the engine's thread, and its answer straight back to who has asked.

    Args:
        budget: seconds that the first question waits for others.
        expected: how many sessions ask regularly at present; nobody waits for more than these.
        measured: told the size of every batch, in the engine's thread.

    Attributes:
        failures: batches in a row that the engine has failed with; 0 as soon as it answers one.
        failure: the sentence of the last one.
    """

    def __init__(
        self, engine: Engine, budget: float, expected: Callable[[], int], measured: Callable[[float], None]
    ) -> None:
        self.engine, self.budget, self.expected, self.measured = engine, budget, expected, measured
        self._queue: SimpleQueue[Asked | None] = SimpleQueue()  # None: the end
        self._thread = ThreadPoolExecutor(1, "plait-inference")
        self._owed: set[asyncio.Future[Answer | None]] = set()
        self._since: float | None = None  # when the engine began with what it is at
        self.failures, self.failure = 0, ""
        self._closed = False

    @property
    def waited(self) -> float:
        """Seconds since the engine began with what it is at; 0 while nothing is asked."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    async def warm_up(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self.engine.warm_up)

    def start(self) -> asyncio.Future[None]:
        """Answer questions until it is closed. Returned is what ends then, or raises why it cannot go on."""
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._thread, self._run, loop)
        return self._running

    def ask(self, question: Question, patience: float | None = None) -> asyncio.Future[Answer | None]:
        """The engine's answer, to be awaited: None where there is none within ``patience`` seconds, a ValueError where
        the policy refuses this observation, Failed where it fails, a ConnectionError where the batcher is closed. Who
        needs it no longer sets it.
        """
        if self._closed:
            raise _stopping()
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._owed.add(answer)
        answer.add_done_callback(self._owed.discard)
        if patience is not None:
            timer = loop.call_later(patience, _give_up, answer)
            answer.add_done_callback(lambda _: timer.cancel())
        if patience is None or self.waited <= patience:  # else it hangs, and what is asked would heap up
            self._queue.put(Asked(question, self.expected(), answer))
        return answer

    async def close(self) -> None:
        """Whoever waits for an answer gets a ConnectionError. Raises Hung when the engine does not return within
        ``CLOSE_S`` from what it is at.
        """
        self._closed = True
        for answer in self._owed:
            if not answer.done():
                answer.set_exception(_stopping())
        self._queue.put(None)
        _, hung = await asyncio.wait({self._running}, timeout=CLOSE_S)
        self._thread.shutdown(wait=False)
        if hung:
            self._running.cancel()
            raise Hung(f"the policy has not answered for {self.waited:.1f} s; it is given up")

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while (first := self._queue.get()) is not None:
            asked = [each for each in self._with_others(first) if not each.answer.done()]  # whose session has not ended
            if not asked:
                continue
            self.measured(len(asked))
            self._since = time.monotonic()
            answers = self._answers([each.question for each in asked])
            self._since = None
            loop.call_soon_threadsafe(_tell, asked, answers)

    def _answers(self, questions: list[Question]) -> list[Answer | Exception]:
        """Failed stands for each error that is no refusal of one observation: the next batch tries again."""
        answers: list[Answer | Exception]
        try:
            answers = self.engine(questions)
        except Exception as error:
            answers = [as_failed(error)] * len(questions)
        else:
            answers = [each if isinstance(each, (Answer, ValueError)) else as_failed(each) for each in answers]
        if any(isinstance(each, Answer) for each in answers):
            self.failures = 0
        elif failed := next((each for each in answers if isinstance(each, Failed)), None):
            self.failures, self.failure = self.failures + 1, str(failed)
        return answers

    def _with_others(self, first: Asked) -> list[Asked]:
        """The first question, all that wait already, and those who are expected within the budget."""
        found, until = [first], time.monotonic() + self.budget
        while len(found) < self.engine.batch:
            wait = until - time.monotonic() if len(found) < found[-1].expected else 0.0
            try:
                other = self._queue.get(timeout=max(0.0, wait))
            except Empty:
                break
            if other is None:  # the end, after this batch
                self._queue.put(None)
                break
            found.append(other)
        return found


def _stopping() -> ConnectionError:
    return ConnectionError("the server is stopping")


def as_failed(error: Exception) -> Failed:
    why = str(error).partition("\n")[0][:200]  # devices tell whole pages
    return Failed(f"the policy failed ({type(error).__name__}: {why})")


def _give_up(answer: asyncio.Future[Answer | None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _tell(asked: list[Asked], answers: list[Answer | Exception]) -> None:
    """In the event loop."""
    for each, answer in zip(asked, answers, strict=True):
        if each.answer.done():
            continue
        if isinstance(answer, Exception):
            each.answer.set_exception(answer)
        else:
            each.answer.set_result(answer)


@contextmanager
def responsive() -> Iterator[None]:
    """Threads of Python take turns more often, so that the one that answers does not wait for the one that computes. A
    full collection of garbage, which stops them all, leaves out what is there already: it would take 100 ms.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_S))
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


def writable(observation: Observation) -> Observation:
    """Torch shares the memory of arrays, and takes none that it may not write to."""
    images = {camera: np.require(image, requirements="W") for camera, image in observation.images.items()}
    return replace(observation, images=images)


def _joined(inputs: list[Inputs]) -> Inputs:
    """The rows of several inputs as one batch, in fresh memory: a compiled policy asks how its inputs lie there."""

    def join(values: list[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], dict):
            return {name: join([value[name] for value in values]) for name in values[0]}
        return torch.cat(values)

    return Inputs(**{f.name: join([getattr(row, f.name) for row in inputs]) for f in fields(Inputs)})
