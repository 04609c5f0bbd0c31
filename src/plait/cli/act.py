"""``plait act``: one moment in, one action out, in words."""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from plait.cli.parse import Verb, texts

if TYPE_CHECKING:
    from plait.policy import Action, Policy
    from plait.spec import Spec

FAR = 10  # standard deviations


@dataclass(frozen=True)
class Act(Verb):
    """Ask a policy for one action: images and a sentence in, position, rotation and gripper out."""

    checkpoint: Positional[str]
    """A checkpoint, or the folder of a run (its newest checkpoint is taken)."""
    image: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="CAMERA=FILE")] = ()
    """Once per camera; a camera that is left out is treated as absent."""
    instruction: str = ""
    """What to do, in plain words."""
    state: str | None = None
    """The robot's state, numbers with commas between; left out, it is treated as absent."""

    def run(self) -> None:
        import plait
        from plait.control import refuse_infinite

        policy = plait.load(self.checkpoint)
        images = {camera: read_image(file) for camera, file in texts(self.image, "--image", "CAMERA=FILE").items()}
        state = read_state(self.state)
        refuse_blind(policy.spec, images, state)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            action = policy.act(images, self.instruction, state)
        for line in (*(each.message for each in told), *unusual(policy, state)):
            print(line, file=sys.stderr)
        refuse_infinite(action.chunk, policy.spec)
        print(describe(action))


def unusual(policy: "Policy", state: list[float] | None) -> Iterator[str]:
    """What about this moment is unlike those of the training, besides that of which ``Policy.act`` warns."""
    yield from far_outside(policy, state or [])
    if policy.memory is not None:
        yield "the policy's memory is empty here, as at the start of an episode"


def far_outside(policy: "Policy", state: list[float]) -> Iterator[str]:
    """One line per entry of the state that is further than ``FAR`` standard deviations from the training's mean."""
    from plait.nn.normaliser import SMALLEST_STD

    normaliser = policy.normalise_state
    mean, reach = normaliser.mean.tolist(), (FAR * normaliser.std.clamp(min=SMALLEST_STD)).tolist()
    for name, value, middle, far in zip(policy.spec.state, state, mean, reach, strict=False):
        if abs(value - middle) > far:
            usual = f"{middle - far:.4g} to {middle + far:.4g}"
            yield f"state: {name} is {value:g}, far from what training saw (within {FAR} standard deviations: {usual})"


def refuse_blind(spec: "Spec", images: dict[str, Any], state: list[float] | None) -> None:
    """Raise a ValueError when nothing is given of what the policy sees or, without cameras, feels."""
    if spec.cameras and not images:
        raise ValueError(f"no image is given; say --image CAMERA=FILE, with one of {sorted(spec.cameras)}.")
    if spec.state and not spec.cameras and state is None:
        raise ValueError(f"no state is given; say --state=NUMBERS, with commas between: {', '.join(spec.state)}.")


def read_image(path: str) -> Any:
    """uint8 ``[height, width, 3]``, RGB."""
    import cv2

    if not Path(path).is_file():
        raise FileNotFoundError(2, "no such image", path)
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{path} is not an image that can be read; PNG and JPEG are.")
    return image


def read_state(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(number) for number in text.split(",")]  # the policy refuses those that are not finite
    except ValueError:
        raise ValueError(f"--state: {text!r} is not numbers with commas between, such as 0.1,0.2,-0.3.") from None


def describe(action: "Action") -> str:
    """The first action of the chunk: position, rotation (whatever is left) and gripper, with unit and convention."""
    spec, left = action.spec, dict(action.named)
    position = {name: left.pop(name) for name in ("x", "y", "z") if name in left}
    gripper = {name: left.pop(name) for name in ("gripper",) if name in left}
    other = ("rotation", spec.rotation) if position else ("action", spec.action_kind)
    rows = [("position", position, spec.action_kind), (other[0], left, other[1]), ("gripper", gripper, spec.gripper)]
    return "\n".join(_row(name, values, convention, spec) for name, values, convention in rows if values)


def _row(name: str, values: dict[str, float], convention: str | None, spec: "Spec") -> str:
    units = dict(zip(spec.actions, spec.action_units or (), strict=False))
    notes = [*dict.fromkeys(units[entry] for entry in values if entry in units), (convention or "").replace("_", " ")]
    numbers = "  ".join(f"{entry} {value:+.3f}" for entry, value in values.items())
    return f"{name:9} {numbers}   ({', '.join(filter(None, notes))})".removesuffix("   ()")
