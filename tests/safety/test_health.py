"""Each fault is found in what has it, and not in what has not."""

import numpy as np
import pytest

from plait.encoders.tokenizer import Tokenizer
from plait.safety.health import Health, HealthConfig, Known, constant, few, grain, late, wrong_picture, wrong_state
from plait.spec import Spec

SPEC = Spec({"front": (24, 32)}, ("x", "y", "z", "finger"), ("x", "y", "z", "gripper"))
RNG = np.random.default_rng(0)
TOLD = "pick up the red ball"


def picture(size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return RNG.integers(0, 256, (*size, 3), np.uint8)


def health(**known: object) -> Health:
    return Health(SPEC, known=Known(**known))


def faults(robot: Health, image: object = None, state: object = None, told: object = TOLD, ages: object = ()) -> dict:
    image = picture() if image is None else image
    return robot.check({"front": image}, np.zeros(4) if state is None else state, told, dict(ages))


def test_sound_inputs_have_no_faults():
    robot = health(state_low=(-1.0,) * 4, state_high=(1.0,) * 4, tokenizer=Tokenizer.build([TOLD]))
    assert [faults(robot, state=np.full(4, 0.01 * i)) for i in range(20)] == [{}] * 20
    assert robot.suspect == ()


@pytest.mark.parametrize(
    ("level", "reason"), [(0, "black"), (5, "black"), (255, "white"), (128, "constant, level 128")]
)
def test_pictures_without_anything_in_them(level, reason):
    noise = RNG.normal(0, 2.0, (24, 32, 3))
    image = np.clip(level + noise, 0, 255).round().astype(np.uint8)
    assert faults(health(), image) == {"images.front": reason}


def test_a_few_pixels_decide_only_that_a_picture_is_sound():
    image = np.zeros((224, 224, 3), np.uint8)
    image[1::2, 1::2] = 255  # none of the pixels that are looked at first
    assert constant(image, few(image), 3.0) is None
    red = np.broadcast_to(np.uint8([255, 0, 0]), (64, 64, 3))
    assert constant(red, few(red), 3.0) == "constant, level 85"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (picture().astype(np.float32), "wrong type, float32; expected uint8"),
        ("front.png", "wrong type, str; expected uint8"),
        (picture()[..., :2], "wrong shape, (24, 32, 2); expected (height, width, 3)"),
        (picture()[:0], "wrong shape, (0, 32, 3); expected (height, width, 3)"),
        (picture((32, 24)), "wrong size, 32 x 24; it was 24 x 32"),
    ],
)
def test_wrong_pictures(image, reason):
    assert wrong_picture(image, (24, 32)) == reason


def test_another_size_than_that_of_the_first_picture_is_a_fault():
    robot = health()
    assert faults(robot, picture((48, 64))) == {}
    assert "wrong size" in faults(robot, picture())["images.front"]


def test_noise_is_a_picture_with_more_grain_than_any_in_training():
    smooth = np.indices((96, 128)).sum(axis=0)[..., None].astype(np.uint8).repeat(3, axis=2)
    assert grain(few(smooth)) == pytest.approx(grain(few(smooth[::2, ::2]))), "whatever its size"
    robot = health(grain={"front": 2 * grain(few(smooth))})
    assert faults(robot, smooth) == {}
    noise = RNG.integers(0, 256, smooth.shape, np.uint8)
    assert faults(robot, noise)["images.front"].startswith("noisy, neighbours differ by 8")


def test_what_is_missing():
    assert health().check({}, None, None, {}) == {
        "images.front": "missing",
        "state": "missing",
        "instruction": "missing",
    }


def test_frozen_is_the_same_picture_while_the_hand_moves():
    robot, image = health(), picture()
    at = lambda x: np.array([x, 0, 0, 0.5])  # noqa: E731
    assert [bool(faults(robot, image, at(0.0))) for _ in range(9)] == [False] * 9, "who stands still sees the same"
    assert faults(robot, image, at(0.009)) == {}
    assert faults(robot, image, at(0.02)) == {"images.front": "frozen for 10 ticks"}
    assert faults(robot, image, at(0.02)) == {"images.front": "frozen for 11 ticks"}
    assert faults(robot, picture(), at(0.02)) == {}


def test_frozen_is_found_at_the_configured_tick_and_not_forgotten_by_holding():
    robot, image = Health(SPEC, HealthConfig(frozen=3)), picture()
    found = [bool(faults(robot, image, np.array([0.02 * min(i, 4), 0, 0, 0]))) for i in range(12)]
    assert found == [False] * 3 + [True] * 9


def test_a_picture_that_differs_in_a_single_pixel_is_another_one():
    robot, image = health(), picture((96, 128))
    for i in range(9):
        image[95, 1 + i] ^= 1  # none of the pixels that are compared first
        assert faults(robot, image, np.array([0.02 * i, 0, 0, 0])) == {}


def test_a_moving_finger_is_no_moving_hand():
    robot, image = health(), picture()
    assert [faults(robot, image, np.array([0, 0, 0, 0.1 * i])) for i in range(9)] == [{}] * 9


def test_without_names_any_change_of_the_state_is_motion():
    robot = Health(Spec({"front": (24, 32)}, ("a", "b"), ("a", "b")))
    image = picture()
    found = [bool(robot.check({"front": image}, np.array([0.0, 0.02 * i]), TOLD, {})) for i in range(4)]
    assert found == [False, False, True, True]


def test_what_a_sender_overwrites_later_is_not_taken_for_the_same():
    robot, image = health(), picture()
    for i in range(5):
        image[:] = picture()
        assert faults(robot, image, np.array([0.02 * i, 0, 0, 0])) == {}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (np.array([0, np.nan, 0, 0]), "y is nan"),
        (np.array([0, 0, -np.inf, 0]), "z is -inf"),
        (np.array([1e300, 0, 0, 0]), "x is 1e+300"),
        (np.zeros(3), "wrong shape, (3,); expected (4,)"),
        (np.array(["a"] * 4), "wrong type, <U1; expected numbers"),
        ([0, 0, 0, 0], "wrong type, list; expected numbers"),
        (np.array([0, 0, 1.3, 0]), "z is 1.3; training saw -1 to 1"),
    ],
)
def test_wrong_states(state, reason):
    assert faults(health(state_low=(-1.0,) * 4, state_high=(1.0,) * 4), state=state) == {"state": reason}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bits", [np.uint16([0x7D01] * 4), np.uint32([0x7FA00001] * 4), np.uint64([0x7FF4 << 48] * 4)])
def test_bits_that_are_no_number_make_no_noise(bits):
    state = bits.view(f"f{bits.itemsize}")
    assert faults(health(state_low=(-1.0,) * 4, state_high=(1.0,) * 4), state=state) == {"state": "x is nan"}


def test_a_little_outside_of_the_range_is_allowed():
    assert faults(health(state_low=(-1.0,) * 4, state_high=(1.0,) * 4), state=np.full(4, 1.15)) == {}
    assert wrong_state(np.zeros(4, np.int64), 4) is None


def test_late_is_what_was_captured_too_long_ago():
    late_picture = {"images.front": 0.31, "state": 0.29}
    assert faults(health(), ages=late_picture) == {"images.front": "late, 0.310 s old"}
    assert late(float("nan"), 3, 10.0) is not None
    assert late(None, 3, 10.0) is None


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("red " * 400, "1600 characters; at most 500 are taken"),
        (b"pick", "wrong type, bytes; expected text"),
        ("red " * 20, "instruction of 20 words, at most 16 are taken; shorten "),
        ("빨간 공을 집어줘", "no known word in '빨간 공을 집어줘'"),
        ("!!", "no known word in '!!'"),
        ("flurbish the quonset", "2 of 3 words are unknown in 'flurbish the quonset'"),
        ("fetch and fetch the ball", "3 of 5 words are unknown in 'fetch and fetch the ball'"),
        ("공을 들어 red", "2 of 3 words are unknown in '공을 들어 red'"),
    ],
)
def test_wrong_instructions(told, reason):
    assert faults(health(tokenizer=Tokenizer.build([TOLD])), told=told)["instruction"].startswith(reason)


def test_unknown_words_are_told_and_the_instruction_stays():
    robot = health(tokenizer=Tokenizer.build([TOLD]))
    assert faults(robot, told="pick up the Crimson ball.") == {}
    assert robot.suspect == ("instruction: unknown word 'Crimson'",)
    assert (faults(robot, told=TOLD), robot.suspect) == ({}, ())


@pytest.mark.parametrize(
    ("told", "unknown"),
    [("pick the red quonset", 1), ("flurbish the quonset ball", 2), ("flurbish ball.", 1), ("the quonset, ball", 2)],
)
def test_an_instruction_of_which_half_is_known_stays(told, unknown):
    robot = health(tokenizer=Tokenizer.build([TOLD]))
    assert faults(robot, told=told) == {} and len(robot.suspect) == unknown
