"""What the envelopes find and change stands in the numbers of the server, under labels of which there are few."""

import functools
import time
from typing import Any

import numpy as np
import pytest

from messages import message
from plait.safety.bounds import LimitsConfig
from plait.safety.envelope import Envelope, SafetyConfig
from plait.safety.health import Health, Known
from plait.serve.client import Refused
from plait.serve.metrics import FAULTS, REFUSALS, Metrics, fault
from policies import SPEC, small_policy
from serving import client, serving

BLACK = {"observation/image": np.zeros((32, 32, 3), np.uint8)}
BLIND = {"observation/image": None, "observation/wrist_image": None}


def test_a_fault_counts_when_it_begins_and_an_action_when_it_is_changed() -> None:
    limits = LimitsConfig(max_speed=0.001, step=(1.0, 1.0, 1.0))
    settings = SafetyConfig(limits=limits, stale_after=600)
    with serving(small_policy(), lambda: Envelope(SPEC, settings), silence_ms=60_000) as server:
        with client(server) as robot:
            for seed, changes in enumerate([{}, BLACK, BLACK, {}, BLACK, {"observation/image": None}, BLIND]):
                robot.infer({**message(seed), **changes})
        with client(server, robot="another") as robot:
            robot.infer(message())
        lines = server.metrics.text().splitlines()
    assert 'plait_input_faults_total{modality="images.front",fault="black"} 2' in lines
    assert 'plait_input_faults_total{modality="images.front",fault="missing"} 1' in lines
    assert 'plait_actions_limited_total{reason="speed"} 8' in lines, "the 4 steps that are executed of 2 chunks"
    assert 'plait_actions_limited_total{reason="held"} 24' in lines
    assert (
        "# HELP plait_actions_limited_total Actions sent to be executed (the first 'execute' of each chunk) that the "
        "envelope has changed."
    ) in lines


def test_a_reset_is_no_observation() -> None:
    with serving(small_policy()) as server, client(server) as robot:
        for _ in range(2):
            robot.reset()
        robot.infer(message())
        robot.reset()  # it is answered when the one before has been measured
        assert sum(server.metrics.latency_ms.counts) == 1


def test_who_is_refused_is_counted() -> None:
    with serving(small_policy(), api_key="a key", sessions=2, rate_limit=2, message_bytes=200_000) as server:
        door = functools.partial(client, server, api_key="a key", wait=0.05)
        with pytest.raises(Refused, match="API key"):
            client(server, api_key="another")
        with pytest.raises(Refused, match="printable"):
            door(robot="x" * 65)
        with door(robot="left") as robot, door() as other:
            with pytest.raises(ConnectionError, match="connected already"):
                door(robot="left")
            with pytest.raises(ConnectionError, match="which is all"):
                door(robot="right")
            with pytest.raises(Refused, match="missing: "):
                robot.infer({**message(), "observation/image": None})
            with pytest.raises(Refused, match="more than 2 messages"):
                for _ in range(4):
                    other.infer(message())
        with (
            door() as robot,
            pytest.raises(Refused, match=r"of 3\d\d,\d\d\d bytes is too large .* larger --message-bytes"),
        ):
            robot.infer({**message(), "padding": bytes(300_000)})
        while server._sessions:
            time.sleep(0.01)
        lines = server.metrics.text().splitlines()
    assert [line for line in lines if line.startswith("plait_refusals_total")] == [
        f'plait_refusals_total{{kind="{kind}"}} 1' for kind in sorted(REFUSALS)
    ]


def test_no_text_of_a_user_is_a_label() -> None:
    class Deaf:
        def encode(self, sentences: list[str]) -> Any:
            return None, np.zeros(1)

        def unknown_words(self, sentence: str) -> list[str]:
            return [sentence]

    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    known = Known(state_low=(0.0,) * 8, state_high=(1.0,) * 8, tokenizer=Deaf(), grain={"front": 1e-3})
    images = [None, picture[..., 0], picture * 0, picture * 0 + 255, picture * 0 + 99, picture, "black eye"]
    states = [None, np.zeros(7), np.full(8, np.nan), np.full(8, 9.0)]
    found = set()
    for image in images:
        for state in states:
            for words in (None, "", 3, "evil\n" * 200, 'say "x"} 1'):
                health = Health(SPEC, known=known)
                for age in ({}, {"images.wrist": 9.0}):
                    faults = health.check({"front": image, "wrist": picture}, state, words, age)
                    found |= set(map(fault, faults.values()))
    assert found == {*FAULTS, "other"} - {"frozen"}
    assert fault("frozen for 2 ticks") == "frozen"


def test_a_label_is_escaped() -> None:
    metrics = Metrics()
    metrics.input_faults['images.a"\\\n', "black"] += 1
    assert 'plait_input_faults_total{modality="images.a\\"\\\\\\n",fault="black"} 1\n' in metrics.text()


@pytest.mark.parametrize("robot", ["left", ""])
def test_what_an_envelope_has_counted_before_does_not_count_again(robot: str) -> None:
    settings = SafetyConfig(stop_after=1, stale_after=600)
    with serving(small_policy(), lambda: Envelope(SPEC, settings), silence_ms=60_000) as server:
        for _ in range(2):
            with client(server, robot=robot) as link:
                link.infer(message())
                link.infer({**message(), **BLIND})
        assert server.metrics.limited["held"] == (4 + 8)


def test_what_is_known_before_it_happens_begins_at_0() -> None:
    lines = Metrics(SPEC.modalities).text().splitlines()
    for line in (
        'plait_faults_total{kind="unanswered"} 0',
        'plait_input_faults_total{modality="images.front",fault="other"} 0',
        'plait_actions_limited_total{reason="not finite"} 0',
        'plait_mode_seconds_total{mode="stopped"} 0.0',
    ):
        assert line in lines
    assert not [line for line in lines if 'kind="late"' in line], "which nothing counts"
