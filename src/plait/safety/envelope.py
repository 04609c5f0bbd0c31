"""The safety state of one robot: what is wrong with its inputs, in which mode it is, and which action may leave.

envelope = Envelope(policy.spec, calibration=Calibration.load(folder, policy))
judged = envelope.judge(observation, now)            # each observation that arrives
action = envelope.limit(action, now, age)            # each action that leaves
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.config import refuse_small, unknown
from plait.safety.audit import Audit
from plait.safety.bounds import LimitsConfig
from plait.safety.calibration import Calibration
from plait.safety.health import Health, HealthConfig
from plait.safety.limits import Limits, steps_of
from plait.safety.modes import Machine, Mode
from plait.spec import INSTRUCTION, STATE, Spec, camera_modality, camera_name, is_camera
from plait.types import Observation

RECOVERING = "recovering"  # the reason where there is no other one for a mode that is not nominal
RATE = 10.0  # control steps per second where the Spec does not say


@dataclass(frozen=True)
class SafetyConfig:
    """Everything that can be set, on by default. Ticks are control steps; each observation counts as one.

    Attributes:
        degrade_after, hold_after: ticks in a row with evidence for that mode until it is entered.
        stop_after: ticks in hold until the robot is stopped.
        recover_after: ticks in a row with better evidence until the mode is one better.
        trust_after: ticks in a row without a fault until a modality that failed is used again.
        silent_after: ticks without an observation until the robot holds.
        stale_after: ticks after its observation until an action is too old to be executed.
        strange_after: predictions in a row from features that are out of distribution, until the robot holds.
        required: modalities without which it holds; None: the instruction, and all of them where the policy was not
            trained to do without (``Calibration.droppable``).
        cameras: how many cameras at least must be sound; of a policy without any, none.
        health, limits: of the inputs and of the outputs.

    Raises:
        ValueError: a number that is too small.
    """

    degrade_after: int = 1
    hold_after: int = 1
    stop_after: int = 50
    recover_after: int = 5
    trust_after: int = 5
    silent_after: int = 10
    stale_after: int = 10
    strange_after: int = 5
    required: tuple[str, ...] | None = None
    cameras: int = 1
    health: HealthConfig = field(default_factory=HealthConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        names = ("degrade_after", "hold_after", "stop_after", "recover_after", "trust_after")
        names += ("silent_after", "stale_after", "strange_after")
        refuse_small(**{name: (getattr(self, name), 1) for name in names}, cameras=(self.cameras, 0))


@dataclass(frozen=True)
class Judged:
    """What health makes of one observation.

    Attributes:
        observation: one row for the policy; what failed is absent in it.
        reasons: short sentences, such as ``images.front: frozen for 2 ticks``.
    """

    observation: Observation
    mode: Mode
    reasons: tuple[str, ...]


class Envelope:
    """The safety state of one robot. Not thread-safe. Time is given in seconds, never read, so that tests are exact.

    Args:
        spec: the policy's embodiment.
        calibration: what is known of clean data; without it, ranges, words and features are not checked.
        audit: gets one line for every change of mode; None: nothing is written.
        name: of the robot, in the audit.

    Attributes:
        present: the modalities that the policy may use.

    Raises:
        ValueError: a limit, a modality or a number of cameras that does not fit the embodiment.
    """

    def __init__(
        self,
        spec: Spec,
        config: SafetyConfig = SafetyConfig(),
        calibration: Calibration | None = None,
        audit: Audit | None = None,
        name: str = "",
    ):
        self.spec, self.config, self.audit, self.name = spec, config, audit, name
        self.calibration = calibration or Calibration()
        self.rate = spec.rate or RATE
        self.required = _required(spec, config, self.calibration)
        if config.cameras > max(1, len(spec.cameras)):
            raise ValueError(
                f"cameras: {config.cameras} would have to be sound, but the policy has {len(spec.cameras)}; give at "
                "most as many"
            )
        self._machine = Machine(config.degrade_after, config.hold_after, config.stop_after, config.recover_after)
        self._health = Health(spec, config.health, self.calibration.known, self.rate)
        self._limits = Limits(spec, config.limits, self.calibration.seen, self.rate)
        self._begin()

    @property
    def mode(self) -> Mode:
        return self._machine.mode

    @property
    def reasons(self) -> tuple[str, ...]:
        return self._reasons

    @property
    def kept(self) -> list[int]:
        """The entries of the action that a hold keeps as they were told last; the others are 0."""
        return self._limits.kept

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong with the last observation: modality -> reason."""
        return dict(self._health.faults)

    @property
    def counts(self) -> dict[str, int]:
        """How often an action was changed, by the reason."""
        return dict(self._limits.counts)

    @property
    def state(self) -> dict[str, Any]:
        """What goes into every reply under ``safety``."""
        return {"mode": str(self.mode), "reasons": list(self.reasons)}

    def judge(self, observation: Observation, now: float, taken: Mapping[str, float] | None = None) -> Judged:
        """Look at an observation of one row as it arrives; whatever it holds, this raises nothing.

        Args:
            now: seconds, by any clock that never goes back.
            taken: modality -> when it was captured, by the same clock, where the robot says so.
        """
        images = {camera: _one(observation, camera_modality(camera)) for camera in self.spec.cameras}
        state, instruction = _one(observation, STATE), _one(observation, INSTRUCTION)
        ages = {modality: now - when for modality, when in (taken or {}).items()}
        faults = self._health.check(images, state, instruction, ages)
        if self._health.measured is not None:
            self._limits.measure(self._health.measured, ages.get(STATE, 0.0) * self.rate)
        self._last = self._now = now
        way = self._limits.way()
        if self._health.news or self._new is None:
            self._new, self._blind = now, 0.0
        self._blind += 0.0 if self._health.news else way
        self._distrust(faults)
        failed = [f"{modality}: {faults.get(modality, 'failed a moment ago')}" for modality in self._sound_for]
        self._faults = (*failed, *self._health.suspect)
        asked, why = self._asked()
        self._tick(asked, (*self._faults, *why))
        return Judged(self._cleaned(images, state, instruction), self.mode, self.reasons)

    def notice(self, features: NDArray[np.floating], present: Iterable[str] | None = None) -> None:
        """Tell the pooled fused features of an observation, ``[d]``, before the action that follows from them leaves:
        are they such as clean data has? Without a calibration they only say that the policy answers.

        Args:
            present: the modalities that the policy had when it was asked; those of the last observation when omitted.
        """
        self._hung = ""
        found = self.calibration.score(features, self.present if present is None else present)
        self._strangeness = None if found is None or found[0] <= found[1] else found
        self._strange_for = 0 if self._strangeness is None else self._strange_for + 1
        asked, why = self._asked()
        if self._strangeness is not None and asked.rank > self.mode.rank:
            self._tick(asked, (*self._faults, *why))

    def limit(self, actions: Any, now: float, age: float, execute: int | None = None) -> NDArray[np.float32]:
        """What leaves instead of ``actions``, the policy's: finite, within the limits, slower when degraded; standing
        still with the gripper kept when the robot holds or is stopped, or when they are stale.

        Args:
            actions: ``[a]``, or a chunk ``[h, a]``.
            age: seconds since its observation. A chunk is stale after as many ticks as it has steps, too.
            execute: steps of the chunk after which the next one comes; what follows them may never be done.

        Raises:
            RuntimeError: absolute actions, and nothing was ever measured: there is no place to hold.
        """
        held, steps = self.mode.stands or self._last is None, steps_of(actions)
        if not held and -1 <= age * self.rate <= self._oldest(steps) and not self._is_silent(now):
            return self._limits.apply(actions, self.mode is Mode.DEGRADED, execute)
        done = 1 if steps is None else min(execute or steps, steps)
        return self._limits.hold("held" if held else "stale", steps, done)

    def patience(self, steps: int) -> float:
        """Seconds after its observation at which a chunk of so many steps comes too late to be executed."""
        return min(self._oldest(steps), self.config.silent_after) / self.rate

    def executed(self, steps: int) -> None:
        """Before the next ``judge``, where it is known: how many steps of what ``limit`` returned last were executed, 0
        if it never reached the robot. Otherwise all that ``limit`` was told of count.
        """
        self._limits.executed(steps)

    def still(self) -> NDArray[np.float32]:
        """The action ``[a]`` that holds the robot after what has left. Raises as ``limit``."""
        return self._limits.still()

    def silent(self, now: float) -> None:
        """To be called once a tick by a watchdog that sees nothing come; at first it does nothing."""
        if self._last is not None and self._is_silent(now):
            self._now = now
            self._tick(Mode.HOLD, (f"no observation for {now - self._last:.3f} s",))

    def unanswered(self, now: float, seconds: float, steps: int, reason: str = "") -> None:
        """To be called once a tick by a watchdog that has waited for the policy for so many seconds, for a chunk of so
        many steps. While an answer can still be executed it does nothing, nor within ``silent_after``; then the robot
        holds. What the policy says next, ``notice``, ends that.

        Args:
            reason: what is told; that the policy does not answer, where it is empty.
        """
        if seconds * self.rate > max(self.config.silent_after, self._oldest(steps)):
            self._hung, self._now = reason or "the policy does not answer", now
            if not self.mode.stands:
                asked, why = self._asked()
                self._tick(asked, (*self._faults, *why))

    def reset(self) -> None:
        """Begin anew, nominal and without a past, but for what grippers were told; the only way out of stopped."""
        before = self.mode
        self._machine.reset()
        self._health.forget()
        self._limits.reset()
        self._note(before, ("reset",))
        self._begin()

    def stop(self, now: float, reason: str) -> None:
        """Stopped for that reason, if it is not yet, until ``reset``."""
        self._now = now
        self._tick(Mode.STOPPED, (reason,))

    def told(self, action: Any) -> None:
        """Before anything has left: the action ``[a]`` that the robot was told last: ``Limits.told``."""
        self._limits.told(action)

    def resume(self, placed: bool = False) -> None:
        """After a pause in which the robot may have been moved: mode, faults and what was counted stay, so that nobody
        is trusted for having been away; where the robot is, and what is on its way, is not known.

        Args:
            placed: until it is measured, absolute actions hold where they would have before the pause; otherwise
                there is no place to hold.
        """
        self._limits.reset(placed)
        self._last = self._new = None

    def _begin(self) -> None:
        self._sound_for: dict[str, int] = {}  # modality that failed -> ticks in a row without a fault
        self.present = self.spec.modalities
        self._hung = ""  # why the policy does not answer
        self._strange_for = 0
        self._strangeness: tuple[float, float] | None = None  # score and threshold, where it is above
        self._faults: tuple[str, ...] = ()  # of the last observation, in words
        self._reasons: tuple[str, ...] = ()
        self._last: float | None = None  # when the last observation came
        self._new: float | None = None  # when the last one came that differed from the one before it
        self._blind = 0.0  # how far the robot was told to go since then
        self._now: float | None = None  # of the last call that told it

    def _oldest(self, steps: int | None) -> int:
        """Ticks after its observation until an action, or a chunk of so many steps, is stale."""
        return self.config.stale_after if steps is None else min(self.config.stale_after, steps)

    def _is_silent(self, now: float) -> bool:
        return self._last is None or not (now - self._last) * self.rate <= self.config.silent_after

    def _unmoved(self) -> bool:
        """Observations that say nothing new for as long as a robot may be silent, while it goes on, are none: whoever
        sends them has died. Sensors slower than the control rate repeat themselves for less than that.
        """
        if self._last is None or self._new is None or self._blind <= self.config.health.frozen_motion:
            return False
        return (self._last - self._new) * self.rate > self.config.silent_after

    def _distrust(self, faults: Mapping[str, str]) -> None:
        """What fails is not used, nor is it at once when it is sound again."""
        counted = {modality: sound + 1 for modality, sound in self._sound_for.items()} | dict.fromkeys(faults, 0)
        self._sound_for = {modality: sound for modality, sound in counted.items() if sound < self.config.trust_after}
        self.present = tuple(name for name in self.spec.modalities if name not in self._sound_for)

    def _asked(self) -> tuple[Mode, tuple[str, ...]]:
        """The mode that the evidence asks for, and what is to be said besides the faults."""
        cameras, needed = sum(map(is_camera, self.present)), min(self.config.cameras, len(self.spec.cameras))
        why = [f"{name} is needed" for name in self.required if name not in self.present]
        if cameras < needed:
            why.append(f"{cameras} cameras are left, {needed} needed" if cameras else "no camera is left")
        if self._limits.needs_position and self._health.measured is None:
            why.append("the position is not known")
        if self._hung:
            why.append(self._hung)
        if self._unmoved():
            why.append("pictures and state stay the same, bit for bit, while the robot is told to move")
        strange = self._strange_for > 0
        if self._strangeness is not None:
            why.append("features out of distribution, {:.1f} above {:.1f}".format(*self._strangeness))
        if len(why) > strange or self._strange_for >= self.config.strange_after:
            return Mode.HOLD, tuple(why)
        degraded = self._sound_for or self._health.suspect or strange
        return Mode.DEGRADED if degraded else Mode.NOMINAL, tuple(why)

    def _tick(self, asked: Mode, reasons: tuple[str, ...]) -> None:
        before = self.mode
        if before is Mode.STOPPED:
            return  # and what led there stays the reason
        self._machine.tick(asked)
        self._reasons = reasons or (() if self.mode is Mode.NOMINAL else (RECOVERING,))
        self._note(before, self._reasons)

    def _note(self, before: Mode, reasons: tuple[str, ...]) -> None:
        if self.audit is None or self.mode is before:
            return
        state = self._health.measured
        evidence = {"present": self.present, "state": None if state is None else state.tolist()}
        evidence |= {"score": self._strangeness and self._strangeness[0], "counts": self.counts}
        change = {"robot": self.name, "time": self._now, "from": str(before), "to": str(self.mode)}
        self.audit.write({**change, "reasons": reasons, **evidence})

    def _cleaned(self, images: dict[str, Any], state: Any, instruction: Any) -> Observation:
        """One row that a policy can take, whatever came."""
        present = {name: np.array([name in self.present]) for name in self.spec.modalities}
        sound = {camera: images[camera][None] for camera in images if camera_modality(camera) in self.present}
        felt = np.asarray(state, np.float32)[None] if STATE in self.present else None
        return Observation(sound, felt, [instruction if INSTRUCTION in self.present else ""], present)


def _required(spec: Spec, config: SafetyConfig, calibration: Calibration) -> tuple[str, ...]:
    if config.required is None:
        return (INSTRUCTION,) if calibration.droppable else spec.modalities
    for modality in config.required:
        if modality not in spec.modalities:
            raise ValueError(f"required: {unknown('modality', modality, spec.modalities)}")
    return config.required


def _one(observation: Observation, modality: str) -> Any:
    """The first row of a modality as it came, an array if it can be one; None where it is absent."""
    if modality == INSTRUCTION:
        value = observation.instruction
    else:
        value = observation.state if modality == STATE else observation.images.get(camera_name(modality))
    try:
        flags = observation.present.get(modality)
        if value is None or (flags is not None and not np.asarray(flags).reshape(-1)[0]):
            return None
        return value[0] if modality == INSTRUCTION else np.asarray(value)[0]
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, OverflowError):  # nothing that has rows
        return value
