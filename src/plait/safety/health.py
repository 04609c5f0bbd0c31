"""What can be wrong with one modality of one observation: a function per fault, which returns the reason or None.

Each takes whatever arrived, as it arrived. What needs the past reads a small memory of the robot; ``Health`` keeps it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from plait.safety.bounds import refuse_numbers
from plait.spec import INSTRUCTION, STATE, Spec, camera_modality

Reason = str | None
SIDE = 16  # pixels per side that are looked at first
ROOM = {"m": 0.02, "cm": 2.0, "mm": 20.0, "rad": 0.1, "deg": 6.0}  # what a touch or a missed grasp may change
NOISY = 2.0  # times the largest grain that training saw
LARGEST = float(np.finfo(np.float32).max)
DARK, BRIGHT = 32, 223  # mean levels below and above which a constant picture is called black and white


@runtime_checkable
class Words(Protocol):
    """What health needs of a tokeniser."""

    def encode(self, sentences: list[str]) -> tuple[Any, Any]: ...

    def unknown_words(self, sentence: str) -> list[str]:
        """Each as often as it comes: a part of what the mask of ``encode`` counts."""
        ...


@dataclass
class CameraMemory:
    """What is remembered of one camera.

    Attributes:
        size: (height, width) of its first sound picture; another one is a fault.
        frame: the last picture that differed from the one before it.
        sample: ``few`` of its pixels, which tell most pictures apart.
        since: where the hand was measured when ``frame`` came, or None.
        same: how many pictures in a row have been identical to ``frame``.
        frozen: it was found frozen, and no other picture has come since.
    """

    size: tuple[int, int] | None = None
    frame: NDArray[np.uint8] | None = None
    sample: bytes = b""
    since: list[float] | None = None
    same: int = 0
    frozen: bool = False


def missing(value: Any) -> Reason:
    return "missing" if value is None else None


def late(age: float | None, ticks: int, rate: float) -> Reason:
    """``age``: seconds since it was captured, None when nobody says."""
    if age is None or age * rate <= ticks + 1e-6:  # an age that is not a number is late
        return None
    return "late, its age is no number, or of the future" if math.isnan(age) else f"late, {age:.3f} s old"


def wrong_picture(image: Any, size: tuple[int, int] | None) -> Reason:
    """Not ``uint8 [height, width, 3]``, or of another size than before."""
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if not isinstance(image, np.ndarray) or dtype != np.uint8:
        return f"wrong type, {dtype or type(image).__name__}; expected uint8"
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        return f"wrong shape, {shape}; expected (height, width, 3)"
    if size is not None and image.shape[:2] != size:
        return f"wrong size, {image.shape[0]} x {image.shape[1]}; it was {size[0]} x {size[1]}"
    return None


def few(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of about ``SIDE`` x ``SIDE`` of the pixels."""
    return image[:: max(1, image.shape[0] // SIDE), :: max(1, image.shape[1] // SIDE)].copy()


def constant(image: NDArray[np.uint8], sample: NDArray[np.uint8], deviation: float) -> Reason:
    """Every channel has nearly the same level everywhere: first in a sample, and if it is so there, in the picture."""
    if cv2.meanStdDev(sample)[1].max() > deviation or cv2.meanStdDev(image)[1].max() > deviation:
        return None
    level = float(image.mean())
    return "black" if level < DARK else "white" if level > BRIGHT else f"constant, level {level:.0f}"


def grain(sample: NDArray[np.uint8]) -> float:
    """Mean difference, in levels, between neighbours in ``few`` pixels; they stand equally far apart in every size."""
    levels = sample.astype(np.int16)
    return float(np.abs(levels[:, 1:] - levels[:, :-1]).mean()) if levels.shape[1] > 1 else 0.0


def noisy(sample: NDArray[np.uint8], usual: float | None) -> Reason:
    """``usual``: the largest grain of clean pictures."""
    if usual is None or (found := grain(sample)) <= NOISY * usual:
        return None
    return f"noisy, neighbours differ by {found:.0f} levels; in training by at most {usual:.0f}"


def frozen(memory: CameraMemory, moved: float, ticks: int, motion: float) -> Reason:
    """The same picture has come again ``ticks`` times while the robot ``moved`` by more than ``motion``; once that is
    so, until another picture comes: a robot that holds because of it does not move.
    """
    if memory.frozen or (memory.same >= ticks and moved > motion):
        return f"frozen for {memory.same} ticks"
    return None


def wrong_state(state: Any, entries: int) -> Reason:
    """Not ``entries`` numbers."""
    if not isinstance(state, np.ndarray) or state.dtype.kind not in "fiu":
        return f"wrong type, {getattr(state, 'dtype', None) or type(state).__name__}; expected numbers"
    return None if state.shape == (entries,) else f"wrong shape, {state.shape}; expected ({entries},)"


def infinite(state: NDArray[Any], names: Sequence[str]) -> Reason:
    """Not finite, or not as a number of 32 bits, with which policies compute."""
    for i, number in enumerate(state.tolist()):
        if not abs(number) <= LARGEST:  # always so with one that is not a number
            return f"{names[i]} is {state[i]}"
    return None


def unseen(state: NDArray[Any], names: Sequence[str], low: Any, high: Any, room: NDArray[np.float64]) -> Reason:
    """Outside of the range seen in training, widened by ``room`` on both sides."""
    wrong = np.flatnonzero((state < low - room) | (state > high + room))
    if not len(wrong):
        return None
    i = wrong[0]
    return f"{names[i]} is {state[i]:.4g}; training saw {low[i]:.4g} to {high[i]:.4g}"


def wrong_instruction(text: Any, characters: int) -> Reason:
    """No text, or a longer one than is looked at."""
    if not isinstance(text, str):
        return f"wrong type, {type(text).__name__}; expected text"
    if len(text) > characters:
        return f"{len(text)} characters; at most {characters} are taken"
    return None if text.strip() else "empty"


def unheard(text: str, tokenizer: Words) -> Reason:
    """More words than the policy takes, none that it knows, or more that it does not know than others: of such a
    sentence it would go by what is left, such as "the".
    """
    try:
        _, mask = tokenizer.encode([text])
    except ValueError as error:
        return str(error)
    words, unknown = int(mask.sum()), len(tokenizer.unknown_words(text))
    if words <= unknown:
        return f"no known word in {text[:60]!r}"
    return f"{unknown} of {words} words are unknown in {text[:60]!r}" if 2 * unknown > words else None


@dataclass(frozen=True)
class HealthConfig:
    """When an input counts as failed. Ticks are those of the control rate.

    Attributes:
        late: ticks that may pass between the capture of a modality and its arrival, where the robot says when it was.
        deviation: standard deviation, in levels of 255, up to which a picture's channel counts as constant. Noise of a
            covered lens is below 3; a real scene is far above.
        frozen: times that the same picture comes again ...
        frozen_motion: ... while the hand moves by more than this (units of its position; where the state does not
            name x, y and z: the length of the whole state's change) until the camera counts as frozen.
        state_margin: how far the state may leave the range seen in training, as a share of that range.
        longest: characters of an instruction.

    Raises:
        ValueError: a number that is not finite, or too small.
    """

    late: int = 3
    deviation: float = 3.0
    frozen: int = 2
    frozen_motion: float = 0.01
    state_margin: float = 0.1
    longest: int = 500

    def __post_init__(self) -> None:
        amounts = ("late", "deviation", "frozen_motion", "state_margin")
        refuse_numbers(self, amounts, "a finite number, 0 or more", lambda number: number >= 0)
        refuse_numbers(self, ("frozen", "longest"), "a whole number, at least 1", lambda number: number >= 1)


@dataclass(frozen=True)
class Known:
    """What is known of clean data, as far as health depends on it; None: not known, and then not checked.

    Attributes:
        state_low, state_high: the range of each entry.
        tokenizer: the policy's.
        grain: camera -> largest ``grain`` of its pictures.
    """

    state_low: tuple[float, ...] | None = None
    state_high: tuple[float, ...] | None = None
    tokenizer: Words | None = None
    grain: dict[str, float] | None = None


@dataclass
class Health:
    """The inputs of one robot. ``check`` once per observation; ``faults`` are then modality -> reason.

    Attributes:
        suspect: reasons for which nothing is taken away, such as a word that training never saw.
        measured: the state as numbers, which may be unusual; None where it cannot be believed.
        news: a picture or the state is another one than in the observation before.
    """

    spec: Spec
    config: HealthConfig = field(default_factory=HealthConfig)
    known: Known = field(default_factory=Known)
    rate: float = 10.0
    faults: dict[str, str] = field(default_factory=dict)
    suspect: tuple[str, ...] = ()
    measured: NDArray[np.float64] | None = None
    news: bool = True
    cameras: dict[str, CameraMemory] = field(init=False)
    _at: list[float] | None = None  # where the hand is measured
    _heard: tuple[str, Reason, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with an empty memory."""
        self.faults, self.suspect, self.measured, self._heard, self.news = {}, (), None, None, True
        self.cameras = {camera: CameraMemory() for camera in self.spec.cameras}

    def check(self, images: dict[str, Any], state: Any, instruction: Any, ages: dict[str, float]) -> dict[str, str]:
        """The faults of one observation, by modality.

        Args:
            images: camera -> one picture; None or left out where there is none.
            ages: modality -> seconds since it was captured, where that is known.
        """
        age = lambda modality: late(ages.get(modality), self.config.late, self.rate)  # noqa: E731
        found: dict[str, Reason] = {}
        before, self.measured = self.measured, None
        if self.spec.state:
            found[STATE] = self._unmeasured(state) or age(STATE)
            self.measured = None if found[STATE] else state.astype(np.float64)
            if self.measured is not None and self._range is not None:
                found[STATE] = unseen(self.measured, self.spec.state, *self._range)
        self._at = None if self.measured is None else self.measured[self._hand].tolist()
        self.news = self.measured is not None and (before is None or not np.array_equal(self.measured, before))
        for camera in self.spec.cameras:
            name = camera_modality(camera)
            found[name] = self._camera(camera, images.get(camera)) or age(name)
        found[INSTRUCTION], self.suspect = self._words(instruction)
        self.faults = {modality: reason for modality, reason in found.items() if reason}
        return self.faults

    def _unmeasured(self, state: Any) -> Reason:
        if reason := missing(state) or wrong_state(state, len(self.spec.state)):
            return reason
        return infinite(state, self.spec.state)

    def _camera(self, camera: str, image: Any) -> Reason:
        memory = self.cameras[camera]
        if reason := missing(image) or wrong_picture(image, memory.size):
            return reason
        memory.size = image.shape[:2]
        sample = few(image)
        self._remember(memory, image, sample)
        moved = 0.0 if self._at is None or memory.since is None else math.dist(self._at, memory.since)
        reason = frozen(memory, moved, self.config.frozen, self.config.frozen_motion)
        memory.frozen = reason is not None
        usual = None if self.known.grain is None else self.known.grain.get(camera)
        return constant(image, sample, self.config.deviation) or reason or noisy(sample, usual)

    def _remember(self, memory: CameraMemory, image: NDArray[np.uint8], sample: NDArray[np.uint8]) -> None:
        pixels = sample.tobytes()
        if memory.frame is not None and memory.sample == pixels and (memory.frame == image).all():
            memory.same += 1
            memory.since = self._at if memory.since is None else memory.since
            return
        self.news = True
        # who sends pictures may write the next one into the same place
        memory.frame, memory.sample = image.copy() if image.flags.writeable else image, pixels
        memory.since, memory.same, memory.frozen = self._at, 0, False

    @cached_property
    def _hand(self) -> list[int]:
        """The entries of the state whose change is motion."""
        return list(self.spec.position or range(len(self.spec.state)))

    @cached_property
    def _range(self) -> tuple[NDArray[np.float64], ...] | None:
        """Lowest and highest state in training, and the room beyond: a share of the range, or ``ROOM``."""
        if self.known.state_low is None or self.known.state_high is None:
            return None
        low, high = np.array(self.known.state_low), np.array(self.known.state_high)
        least = [ROOM.get(unit, 0.0) for unit in self.spec.state_units or [""] * len(low)]
        return low, high, np.maximum(self.config.state_margin * (high - low), least) + 1e-6

    def _words(self, instruction: Any) -> tuple[Reason, tuple[str, ...]]:
        """The reason, and the suspicions. A sentence that comes again is not split again."""
        if not isinstance(instruction, str):
            return missing(instruction) or wrong_instruction(instruction, self.config.longest), ()
        if self._heard is None or self._heard[0] != instruction:
            self._heard = instruction, *self._judge_words(instruction)
        return self._heard[1:]

    def _judge_words(self, instruction: str) -> tuple[Reason, tuple[str, ...]]:
        tokenizer = self.known.tokenizer
        if (reason := wrong_instruction(instruction, self.config.longest)) or tokenizer is None:
            return reason, ()
        unknown = dict.fromkeys(tokenizer.unknown_words(instruction))
        return unheard(instruction, tokenizer), tuple(f"{INSTRUCTION}: unknown word {word[:30]!r}" for word in unknown)
