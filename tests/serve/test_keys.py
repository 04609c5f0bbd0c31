"""Clients of several conventions reach the same policy; one that does not fit is told what differs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from messages import message
from plait.safety.envelope import Envelope
from plait.safety.modes import Mode
from plait.serve.keys import accepted, agree, executed, instruction, is_reset, observed, taken
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
    sent = CLIENTS[name]
    keys = agree(sent, SPEC, KNOWN)
    assert keys == KNOWN[name]
    images = keys.images(sent)
    np.testing.assert_array_equal(images["front"], FRONT)
    np.testing.assert_array_equal(images["wrist"], WRIST)
    np.testing.assert_array_equal(keys.measured(sent), STATE.astype(np.float32))
    assert instruction(sent) == "go"


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
    ("sent", "sentence"),
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
        (changed(image="a"), "camera 'front': str; expected uint8"),
        (changed(image=b"\xff\xd8\xff"), "camera 'front': bytes; expected uint8 [height, width, 3], trained with"),
        (changed(image=[[1], [2, 3]]), "camera 'front': list; expected"),
        ({**changed(), "prompt": b"go"}, "prompt: bytes; expected text"),
        ({**changed(), "prompt": None, "task": ["go"]}, "task: list; expected text"),
        ({**changed(), "age_ms": 5000.0}, "age_ms: float; expected milliseconds by modality, {'images.front': 30.0}"),
        ({**changed(), "age_ms": {"top": 5.0}}, "age_ms: no modality 'top'; choose one of ['images.front', "),
        ({**changed(), "age_ms": {"observation.images.front": 5.0}}, "Did you mean 'images.front'?"),
        ({**changed(), "age_ms": {"images.front": "5"}}, "age_ms: 'images.front' is str; expected milliseconds"),
        ({**changed(), "age_ms": {"x" * 10**6: 5.0}}, "age_ms: no modality 'xxxxx"),
        (changed(image=FRONT[:0]), "camera 'front': 0 x 64"),
        (
            changed(wrist=np.zeros((48, 64, 3), np.uint8)),
            "camera 'wrist': 48 x 64 (height x width) has another aspect than 32 x 32, as trained; crop it",
        ),
    ],
)
def test_what_differs_is_told(sent: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        agree(sent, SPEC, KNOWN)
    assert sentence in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(("age", "when"), [(40, 9.96), (np.float32(500), 9.5), (10**400, -np.inf), (-999, 10.999)])
def test_when_a_modality_was_captured(age: Any, when: float) -> None:
    ages = {"state": age, "images.wrist": None}
    assert taken({"age_ms": ages}, 10.0, SPEC) == {"state": when}
    assert agree({**changed(), "age_ms": ages}, SPEC, KNOWN)


@pytest.mark.parametrize("name", ["images.front", "front"])
def test_a_camera_has_its_own_name_where_an_age_is_told_too(name: str) -> None:
    sent = {**CLIENTS["plain"], "age_ms": {name: 500.0}}
    assert agree(sent, SPEC, KNOWN) == KNOWN["plain"] and taken(sent, 10.0, SPEC) == {"images.front": 9.5}


@pytest.mark.parametrize("age", ["old", float("nan"), -1001, -1e6, -(10**400), [5]])
def test_what_is_no_age_or_one_of_the_future_is_late(age: Any) -> None:
    robot = Envelope(SPEC)
    ages = {"state": age, "images.front": age}
    robot.judge(observed(message(), KNOWN["libero"], SPEC), 10.0, taken({"age_ms": ages}, 10.0, SPEC))
    assert robot.faults == dict.fromkeys(ages, "late, its age is no number, or of the future")


@pytest.mark.parametrize(("picture", "name"), [(b"\xff\xd8", "bytes"), ([1, 2], "list"), ({}, "dict"), ("a", "str")])
def test_what_came_instead_of_a_picture_is_told_later_on_too(picture: Any, name: str) -> None:
    robot = Envelope(SPEC)
    robot.judge(observed({**message(), "observation/image": picture}, KNOWN["libero"], SPEC), 10.0)
    assert robot.faults == {"images.front": f"wrong type, {name}; expected uint8"}


def test_what_says_how_much_was_executed() -> None:
    assert executed({}, 3) is None
    assert executed({"heard": 3}, 3) is None and executed({"heard": 2, "executed": 4}, 3) == 0
    assert executed({"heard": 3, "executed": np.int64(2)}, 3) == 2 and executed({"executed": -1}, 3) == 0
    assert executed({"heard": "2", "executed": 1.5}, 3) is None and executed({"heard": True}, 3) is None
    assert is_reset({"reset": 1}) and not is_reset({"reset": 0}) and not is_reset({"reset": "yes"})
    assert is_reset({"reset": True, "heard": 3}) and not is_reset({"reset": True, "state": [0.0]})


def test_a_camera_that_no_table_has_needs_to_be_named() -> None:
    spec = replace(SPEC, cameras={"overhead": (32, 32), "wrist": (32, 32)})
    assert list(accepted(spec)) == ["lerobot", "aloha", "aloha, own names", "plain"], (
        "those with the policy's own names"
    )
    keys = accepted(spec, {"observation/image": "overhead"})["libero"]
    assert agree(CLIENTS["libero"], spec, {"libero": keys}).cameras["overhead"] == "observation/image"
    with pytest.raises(ValueError, match="no convention has a key for each of the cameras 'overhead', 'wrist'"):
        agree(CLIENTS["libero"], spec, {})


def test_no_picture_is_two_cameras() -> None:
    known = accepted(SPEC, {"observation/image": "wrist"})
    assert "libero" not in known and known["plain"].cameras == {"front": "front", "wrist": "observation/image"}
    with pytest.raises(ValueError, match="keys: 'state' stands for something else than a camera; choose another key"):
        accepted(SPEC, {"state": "front"})


def test_alohas_map_takes_the_policys_own_names_too() -> None:
    sent = {"images": {"front": FRONT, "wrist": WRIST}, "state": STATE, "prompt": "go"}
    assert agree(sent, SPEC, KNOWN).cameras == {"front": "images/front", "wrist": "images/wrist"}


def test_the_first_words_that_are_there_count() -> None:
    assert instruction({"prompt": " ", "task": "go"}) == "go" and instruction({"prompt": 3}) == ""


@pytest.mark.parametrize("ages", [5000.0, "old", {"image.front": 5.0}])
def test_ages_that_are_not_understood_make_all_that_is_seen_and_measured_late(ages: Any) -> None:
    robot = Envelope(SPEC)
    robot.judge(observed(message(), KNOWN["libero"], SPEC), 10.0, taken({"age_ms": ages}, 10.0, SPEC))
    assert robot.faults.keys() == {"images.front", "images.wrist", "state"} and robot.mode == Mode.HOLD
