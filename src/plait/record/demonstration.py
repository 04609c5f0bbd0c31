"""One demonstration: a scripted expert acts in a scene until it succeeds, and may be disturbed on the way."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Any

import gymnasium
import numpy as np

from plait import envs
from plait.config import refuse_outside
from plait.data.episode import Episode
from plait.data.keys import IMAGE_PREFIX, STATE
from plait.record.mishaps import Action, Pushes, Slips
from plait.spec import Spec


@dataclass(frozen=True)
class DemonstrationConfig:
    """How a scene is shown.

    Attributes:
        pushes: how strongly the arm is pushed off its way now and then, in action units; the recorded action is what
            the expert does about it.
        slips: the chance, in each step in which the expert closes the gripper, that it opens for a moment; what was
            held has to be fetched again.
        longest: steps until success; a demonstration that takes more counts as failed. An expert that is stuck for a
            while shows how to stay stuck.
        tries: of the expert in each scene, with other mishaps each time; the first success is recorded, unless a later
            one takes less than half of its steps. An expert that happens to dither is not shown dithering, and no
            layout is rarer because the expert often fails in it.
        dwell: steps that each demonstration goes on after success. An episode that ends as soon as it succeeds does not
            show where to stop, and a policy that comes by a little too far off has never seen the way back.

    Raises:
        ValueError: a number outside its range, or several tries that nothing tells apart.
    """

    pushes: float = 0.0
    slips: float = 0.0
    longest: int | None = None
    tries: int = 1
    dwell: int = 0

    def __post_init__(self) -> None:
        refuse_outside(self, "record", slips="[0, 1)", dwell="[0, inf)")
        if self.tries > 1 and not (self.pushes or self.slips):
            raise ValueError(f"record.tries: {self.tries}; they differ by pushes or slips, so give one of these")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "DemonstrationConfig":
        """Those of a recording's arguments that say how its scenes were shown; the defaults for what is not there."""
        return cls(**{each.name: arguments[each.name] for each in fields(cls) if each.name in arguments})

    def mishaps(self, spec: Spec, seed: int, attempt: int = 0) -> Callable[[Action], Action]:
        """From each action that the expert wants to the one that is executed, in an attempt at an episode."""
        pushed, slipped = Pushes(spec, self.pushes, seed, attempt), Slips(spec, self.slips, seed, attempt)
        return lambda wanted: slipped(wanted, pushed(wanted))


CLEAN = DemonstrationConfig()


def demonstrate(
    env: Any, seed: int, number: int = 0, how: DemonstrationConfig = CLEAN, attempt: int = 0
) -> Episode | None:
    """One whole episode of the environment's expert; None when it does not succeed in ``how.longest`` steps.

    Args:
        number: the episode's, which decides the task where an environment has several.
        attempt: of several in the same scene, which differ by their mishaps.
    """
    observation, info = env.reset(seed=seed, options={"number": number})
    expert, disturbed = env.expert(), how.mishaps(env.embodiment, seed, attempt)
    instruction, steps, actions = info["task"], [], []
    ended, succeeded, left = False, False, how.dwell
    while left >= 0 and (ended or len(actions) != how.longest):
        action = expert.action()
        steps.append(observation)
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(disturbed(action))
        if not ended:
            ended, succeeded = terminated, info["is_success"]
        if truncated or (ended and not succeeded):
            break
        left -= ended
    if not succeeded:
        return None
    spec = env.embodiment
    images = {camera: np.stack([step[IMAGE_PREFIX + camera] for step in steps]) for camera in spec.cameras}
    state = np.stack([step[STATE] for step in steps]) if spec.state else None
    return Episode(images, state, np.stack(actions), instruction)


def best_attempt(env: gymnasium.Env, seed: int, number: int, how: DemonstrationConfig) -> int | None:
    """The first of ``how.tries`` attempts that succeeds, unless a later one takes less than half of its steps: then the
    expert dithered. None where none succeeds. Nothing is drawn for that.

    The shortest of all would be one that no push made longer, which does not show how to come back.
    """
    best, longest = None, how.longest
    with closing(envs.blind(env)) as blind:
        for attempt in range(how.tries):
            episode = demonstrate(blind.unwrapped, seed, number, replace(how, longest=longest, dwell=0), attempt)
            if episode is not None:
                best, longest = attempt, (len(episode.action) - 1) // 2
            if longest == 0:
                break
    return best
