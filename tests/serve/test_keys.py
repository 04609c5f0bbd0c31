"""Clients of several conventions reach the same policy; one that does not fit is told what differs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.serve.keys import accepted, agree, executed, instruction, is_reset, taken
from policies import SPEC

FRONT, WRIST, STATE = np.full((64, 64, 3), 1, np.uint8), np.full((64, 64, 3), 2, np.uint8), np.arange(8.0)
CLIENTS: dict[str, dict[str, Any]] = {
    "lerobot": {
        "observation.images.front": FRONT,
        "observation.images.wrist": WRIST,
        "observation.state": STATE,
        "task": "go",
    },
    "libero": {
        "observation/image": FRONT,
        "observation/wrist_image": WRIST,
        "observation/state": STATE,
        "prompt": "go",
    },
    "droid": {
        "observation/exterior_image_1_left": FRONT,
        "observation/wrist_image_left": WRIST,
        "observation/joint_position": STATE[:7],
        "observation/gripper_position": STATE[7:],
        "prompt": "go",
    },
    "aloha": {
        "state": STATE,
        "images": {"cam_high": np.moveaxis(FRONT, -1, 0), "cam_left_wrist": np.moveaxis(WRIST, -1, 0)},
        "prompt": "go",
    },
    "plain": {"front": FRONT, "wrist": WRIST, "state": STATE.tolist(), "prompt": "go"},
}
KNOWN = accepted(SPEC)


@pytest.mark.parametrize("name", CLIENTS)
def test_every_convention_gives_the_same(name: str) -> None:
    message = CLIENTS[name]
    keys = agree(message, SPEC, KNOWN)
    assert keys == KNOWN[name]
    images = keys.images(message)
    np.testing.assert_array_equal(images["front"], FRONT)
    np.testing.assert_array_equal(images["wrist"], WRIST)
    np.testing.assert_array_equal(keys.measured(message), STATE.astype(np.float32))
    assert instruction(message) == "go"


def test_the_cameras_of_two_arms_are_told_apart() -> None:
    size = (64, 64)
    aloha = replace(SPEC, cameras={"cam_high": size, "cam_left_wrist": size, "cam_right_wrist": size})
    keys = accepted(aloha)["aloha"]
    assert keys.cameras == {camera: f"images/{camera}" for camera in aloha.cameras}
    pi0 = replace(SPEC, cameras={"base_0_rgb": size, "left_wrist_0_rgb": size, "right_wrist_0_rgb": size})
    assert accepted(pi0)["aloha"].cameras == {
        "base_0_rgb": "images/cam_high",
        "left_wrist_0_rgb": "images/cam_left_wrist",
        "right_wrist_0_rgb": "images/cam_right_wrist",
    }


def changed(**changes: Any) -> dict[str, Any]:
    names = {"image": "observation/image", "wrist": "observation/wrist_image", "state": "observation/state"}
    table = {**CLIENTS["libero"], **{names[key]: value for key, value in changes.items()}}
    return {key: value for key, value in table.items() if value is not None}


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            changed(wrist=None),
            "this observation has 'observation/image', 'observation/state', 'prompt'; "
            "missing: 'observation/wrist_image' (camera 'wrist')",
        ),
        (changed(state=None), "missing: 'observation/state' (state)"),
        ({}, "this observation has nothing; missing: "),
        (changed(state=STATE[:7]), "state: 7 numbers; expected 8 (x, y, z, rx, "),
        (changed(state="abc"), "state: 0 numbers; expected 8"),
        (
            changed(image=FRONT.astype(np.float32)),
            "camera 'front': float32 [64, 64, 3]; expected uint8 [height, width, 3], trained with 32 x 32",
        ),
        (changed(image=FRONT[..., 0]), "camera 'front': uint8 [64, 64]; expected"),
        (changed(image="a"), "camera 'front': float64 [0]; expected"),
        (changed(image=FRONT[:0]), "camera 'front': 0 x 64"),
        (
            changed(wrist=np.zeros((48, 64, 3), np.uint8)),
            "camera 'wrist': 48 x 64 (height x width) has another aspect than 32 x 32, as trained; crop it",
        ),
    ],
)
def test_what_differs_is_told(message: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        agree(message, SPEC, KNOWN)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("age", "when"),
    [(40, 9.96), (np.float32(500), 9.5), (10**400, -np.inf), (-(10**400), np.inf), (True, 9.999)],
)
def test_when_a_modality_was_captured(age: Any, when: float) -> None:
    assert taken({"age_ms": {"state": age, "images.front": "old", "images.wrist": None}}, 10.0) == {"state": when}


def test_what_says_how_much_was_executed() -> None:
    assert executed({}, 3) is None
    assert executed({"heard": 3}, 3) is None and executed({"heard": 2, "executed": 4}, 3) == 0
    assert executed({"heard": 3, "executed": np.int64(2)}, 3) == 2 and executed({"executed": -1}, 3) == 0
    assert executed({"heard": "2", "executed": 1.5}, 3) is None and executed({"heard": True}, 3) is None
    assert is_reset({"reset": True, "heard": 3}) and not is_reset({"reset": True, "state": [0.0]})


def test_a_camera_that_no_table_has_needs_to_be_named() -> None:
    spec = replace(SPEC, cameras={"overhead": (32, 32), "wrist": (32, 32)})
    assert list(accepted(spec)) == ["lerobot", "aloha", "plain"], "those that take the policy's own names"
    keys = accepted(spec, {"observation/image": "overhead"})["libero"]
    assert agree(CLIENTS["libero"], spec, {"libero": keys}).cameras["overhead"] == "observation/image"
    with pytest.raises(ValueError, match="no convention has a key for each of the cameras 'overhead', 'wrist'"):
        agree(CLIENTS["libero"], spec, {})
