"""What clients call the parts of an observation, and which of the policy's cameras and state those are.

The tables below are all there is. Of a convention, a camera's key is the one whose names on the right include the
policy's camera; ``{camera}`` stands for the policy's own name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.config import unknown
from plait.serve.client import EXECUTED, HEARD, is_whole
from plait.spec import INSTRUCTION, Spec, camera_modality
from plait.types import Observation

BASE = ("image", "front", "base", "base_0_rgb", "agentview", "exterior", "exterior_1", "top", "high", "head", "corner2")
WRIST = ("wrist_image", "wrist", "wrist_0_rgb", "left_wrist_0_rgb", "hand", "eye_in_hand", "gripper")
INSTRUCTIONS = ("prompt", "task", "instruction", "language_instruction")
RESET = "reset"
EPISODES = ("episode", "episode_index")
AGES = "age_ms"
NUMBERS = (int, float, np.integer, np.floating)
AHEAD_S = 1.0  # that a camera's clock may be ahead


@dataclass(frozen=True)
class Convention:
    """One way to name the parts.

    Attributes:
        cameras: key -> names that the policy may have for this camera. A slash that is no part of a key, as in
            ``images/cam_high``, stands for a map within a map.
        state: keys whose numbers, one after the other, are the state.
    """

    cameras: Mapping[str, tuple[str, ...]]
    state: tuple[str, ...]


CONVENTIONS: dict[str, Convention] = {
    "lerobot": Convention({"observation.images.{camera}": ("{camera}",)}, ("observation.state",)),
    "lerobot, one camera": Convention({"observation.image": BASE}, ("observation.state",)),
    "libero": Convention(
        {"observation/image": BASE, "observation/wrist_image": WRIST},
        ("observation/state",),
    ),
    "droid": Convention(
        {
            "observation/exterior_image_1_left": ("exterior_image_1_left", *BASE),
            "observation/exterior_image_2_left": ("exterior_image_2_left", "exterior_2", "side"),
            "observation/wrist_image_left": ("wrist_image_left", *WRIST),
        },
        ("observation/joint_position", "observation/gripper_position"),
    ),
    "aloha": Convention(
        {
            "images/cam_high": ("cam_high", *BASE),
            "images/cam_low": ("cam_low", "low"),
            "images/cam_left_wrist": ("cam_left_wrist", "left_wrist", *WRIST),
            "images/cam_right_wrist": ("cam_right_wrist", "right_wrist", "right_wrist_0_rgb"),
            "images/{camera}": ("{camera}",),
        },
        ("state",),
    ),
    "aloha, own names": Convention({"images/{camera}": ("{camera}",)}, ("state",)),
    "plain": Convention({"{camera}": ("{camera}",)}, ("state",)),
}


@dataclass(frozen=True)
class Keys:
    """Where one client's observations have what the policy needs: camera -> key, and the keys of the state."""

    cameras: Mapping[str, str]
    state: tuple[str, ...]

    def images(self, message: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """An array for each camera that is there, unchecked; [height, width, 3] where it came as [3, height, width]."""
        found = {camera: _at(message, key) for camera, key in self.cameras.items()}
        return {camera: _picture(value) for camera, value in found.items() if value is not None}

    def used(self, message: Mapping[str, Any]) -> bool:
        """Whether the client has anything under them."""
        return any(_at(message, key) is not None for key in (*self.cameras.values(), *self.state))

    def measured(self, message: Mapping[str, Any]) -> Any:
        """The state, unchecked; None where a part of it is missing."""
        parts = [_at(message, key) for key in self.state]
        if not parts or any(part is None for part in parts):
            return None
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what is no number then is seen by the envelope
                return np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
        except (TypeError, ValueError):  # no numbers
            return np.zeros(0, np.float32)


def instruction(message: Mapping[str, Any]) -> str:
    """What the robot is told; ``""`` where nothing is, or no text."""
    told = (value for key in INSTRUCTIONS if isinstance(value := message.get(key), str))
    return next((text for text in told if text.strip()), "")


def observed(message: Mapping[str, Any], keys: Keys, spec: Spec) -> Observation:
    """One row of what a client sent, unchecked. Nobody changes it: of what may be written to, it holds a copy."""
    state = keys.measured(message) if spec.state else None
    images = {camera: unchanging(image[None]) for camera, image in keys.images(message).items()}
    return Observation(images, None if state is None else state[None], [instruction(message)])


def unchanging(image: np.ndarray) -> np.ndarray:
    """The image itself where it is read-only."""
    if image.flags.writeable:
        image = image.copy()
        image.flags.writeable = False
    return image


def taken(message: Mapping[str, Any], now: float, spec: Spec) -> dict[str, float]:
    """Modality -> when it was captured, where the client says how old it is: ``{"age_ms": {"images.front": 30.0}}``,
    or ``"front"``, the policy's name of the camera. Not a number, which counts as late, where the age is none or lies
    in the future; for every camera and the state where it is not known whose age is meant.
    """
    ages = message.get(AGES)
    if ages is None:
        return {}
    if not isinstance(ages, Mapping) or any(_modality(name, spec) not in spec.modalities for name in ages):
        return {modality: math.nan for modality in spec.modalities if modality != INSTRUCTION}
    return {_modality(name, spec): now - _age(age) for name, age in ages.items() if age is not None}


def executed(message: Mapping[str, Any], answer: int) -> int | None:
    """How many steps of the answer with this number were executed, as far as the client says so: none of one that is
    newer than the last that it has ``heard`` of, else so many as it has ``executed``.
    """
    heard, steps = message.get(HEARD), message.get(EXECUTED)
    if is_whole(heard) and heard < answer:
        return 0
    return max(0, int(steps)) if is_whole(steps) else None


def is_reset(message: Mapping[str, Any]) -> bool:
    """Whether it begins an episode, without an observation."""
    return begins_anew(message) and not message.keys() - {RESET, HEARD, EXECUTED}


def begins_anew(message: Mapping[str, Any]) -> bool:
    """Whether it says that a new episode begins."""
    return says_yes(message.get(RESET))


def says_yes(mark: Any) -> bool:
    """Whether it is true or 1."""
    return isinstance(mark, (bool, np.bool_, int, np.integer)) and bool(mark)


def episode(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """What differs from one episode to the next, where the client says it."""
    marks = map(message.get, EPISODES)
    return tuple(mark if isinstance(mark, (int, float, str, np.generic)) else None for mark in marks)


def accepted(spec: Spec, renamed: Mapping[str, str] | None = None) -> dict[str, Keys]:
    """Every convention that has a key of its own for each of the policy's cameras, and differs from those before it.

    Args:
        renamed: key -> camera: in every convention, this key is that camera's, in place of the table's.

    Raises:
        ValueError: a renamed key that stands for something else than a camera.
    """
    own = {camera: key for key, camera in (renamed or {}).items()}
    states = {key for convention in CONVENTIONS.values() for key in convention.state}
    if wrong := {*INSTRUCTIONS, *EPISODES, RESET, AGES, HEARD, EXECUTED, *states} & set(own.values()):
        raise ValueError(f"keys: {min(wrong)!r} stands for something else than a camera; choose another key")
    found: dict[str, Keys] = {}
    for name, convention in CONVENTIONS.items():
        keys = Keys({**_cameras(convention, spec), **own}, convention.state if spec.state else ())
        alone = len(set(keys.cameras.values())) == len(keys.cameras)  # no picture is two cameras'
        if keys.cameras.keys() == spec.cameras.keys() and alone and keys not in found.values():
            found[name] = keys
    return found


def agree(message: Mapping[str, Any], spec: Spec, known: Mapping[str, Keys]) -> Keys:
    """The convention that a client's first observation follows.

    Raises:
        ValueError: it has not all that the policy was trained with, or of another size or type, or its ages are not
            understood; the sentence says what differs.
    """
    if not known:
        names = ", ".join(map(repr, spec.cameras))
        raise ValueError(f"no convention has a key for each of the cameras {names}; the server needs --keys KEY=CAMERA")
    missing = {name: _missing(message, keys, spec) for name, keys in known.items()}
    best = min(missing, key=lambda name: len(missing[name]))
    if missing[best]:
        raise ValueError(f"this observation has {_paths(message)}; missing: {', '.join(missing[best])}")
    keys = known[best]
    wrong = [*_wrong_images(keys.images(message), spec), *_wrong_state(keys.measured(message), spec)]
    wrong += [*_wrong_instruction(message), *_wrong_ages(message.get(AGES), spec)]
    if wrong:
        raise ValueError("; ".join(wrong))
    return keys


def _cameras(convention: Convention, spec: Spec) -> dict[str, str]:
    """Camera -> key, each key once: a name that stands further left in the table is the better one."""
    found: dict[str, str] = {}
    for key, names in convention.cameras.items():
        for camera in spec.cameras if "{camera}" in key else [name for name in names if name in spec.cameras]:
            if camera not in found:
                found[camera] = key.format(camera=camera)
                if "{camera}" not in key:
                    break
    return found


def _missing(message: Mapping[str, Any], keys: Keys, spec: Spec) -> list[str]:
    cameras = [f"{key!r} (camera {name!r})" for name, key in keys.cameras.items() if _at(message, key) is None]
    return cameras + [f"{key!r} (state)" for key in keys.state if _at(message, key) is None]


def _wrong_images(images: Mapping[str, np.ndarray], spec: Spec) -> list[str]:
    """One sentence per picture that is not what the policy was trained with."""
    found = []
    for camera, image in images.items():
        height, width = spec.cameras[camera]
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            expected = f"uint8 [height, width, 3], trained with {height} x {width}"
            kind = type(image[()]).__name__ if image.dtype == object else f"{image.dtype} {list(image.shape)}"
            found.append(f"camera {camera!r}: {kind}; expected {expected}")
        elif 0 in image.shape or not 0.95 < image.shape[0] * width / (image.shape[1] * height) < 1.05:
            shape = f"{image.shape[0]} x {image.shape[1]} (height x width)"
            found.append(f"camera {camera!r}: {shape} has another aspect than {height} x {width}, as trained; crop it")
    return found


def _wrong_state(state: Any, spec: Spec) -> list[str]:
    if not spec.state or len(state) == len(spec.state):
        return []
    names = ", ".join(spec.state)
    return [f"state: {len(state)} numbers; expected {len(spec.state)} ({names})"]


def _wrong_instruction(message: Mapping[str, Any]) -> list[str]:
    told = {key: message[key] for key in INSTRUCTIONS if message.get(key) is not None}
    if not told or any(isinstance(value, str) for value in told.values()):
        return []
    return [f"{key}: {type(value).__name__}; expected text" for key, value in told.items()]


def _wrong_ages(ages: Any, spec: Spec) -> list[str]:
    """The first thing for which nobody could be late."""
    if ages is None:
        return []
    if not isinstance(ages, Mapping):
        return [f"{AGES}: {type(ages).__name__}; expected milliseconds by modality, {{{spec.modalities[0]!r}: 30.0}}"]
    for name, age in ages.items():
        if _modality(name, spec) not in spec.modalities:
            return [f"{AGES}: {unknown('modality', str(name)[:60], spec.modalities)}"]
        if age is not None and not isinstance(age, NUMBERS):
            return [f"{AGES}: {name!r} is {type(age).__name__}; expected milliseconds"]
    return []


def _modality(name: Any, spec: Spec) -> Any:
    """Of which an age is told."""
    return camera_modality(name) if name in spec.cameras else name


def _at(message: Mapping[str, Any], key: str) -> Any:
    """What stands under ``key``, or under ``images/top`` in the map ``images``."""
    if key in message:
        return message[key]
    outer, _, inner = key.partition("/")
    below = message.get(outer)
    return below.get(inner) if inner and isinstance(below, Mapping) else None


def _picture(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):  # no picture; kept, so that it is told what it is
        other = np.empty((), object)
        other[()] = value
        return other
    return np.moveaxis(value, 0, -1) if value.ndim == 3 and value.shape[0] == 3 != value.shape[-1] else value


def _age(value: Any) -> float:
    """Seconds; not a number where it is none, or of a moment that is still to come."""
    if not isinstance(value, NUMBERS):
        return float("nan")
    try:
        age = float(value) / 1e3
    except OverflowError:  # an integer beyond all floats
        age = float("inf") if value > 0 else float("-inf")
    return age if age >= -AHEAD_S else float("nan")


def _paths(message: Mapping[str, Any]) -> str:
    """The keys of a message, for people."""
    paths = [
        f"{key}/{inner}" if inner else key
        for key, value in message.items()
        for inner in (value if isinstance(value, Mapping) else [""])
    ]
    shown = ", ".join(map(repr, paths[:12])) or "nothing"
    return shown[:400] + (" and more" if len(paths) > 12 else "")
