"""The server on loopback: right answers for each robot, in openpi's protocol, whatever else arrives."""

import asyncio
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from fuzzing import Link
from messages import message
from plait.control import Controller
from plait.memory import RecurrentConfig
from plait.policy import Policy
from plait.serve.client import Client, Refused
from plait.serve.codec import pack, unpack
from plait.serve.server import ServeConfig, Server
from plait.types import Observation
from policies import SPEC, small_policy
from serving import client, expected, serving


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


@pytest.fixture(scope="module")
def server(policy: Policy) -> Iterator[Server]:
    with serving(policy) as server:
        yield server


def raw(server: Server, **options: Any) -> ClientConnection:
    """A connection that has heard the metadata."""
    connection = connect(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None, **options).__enter__()
    assert isinstance(connection.recv(10), bytes)
    return connection


def get(server: Server, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def healthy(server: Server, robot: Client, seed: int) -> None:
    """The robot gets the bare policy's answer."""
    close(robot.infer(message(seed))["actions"], expected(server.policy, message(seed)))


def test_a_reply_is_what_the_policy_gives(server: Server) -> None:
    with client(server) as robot:
        for sequence in (1, 2):
            reply = robot.infer(message(sequence))
            close(reply["actions"], expected(server.policy, message(sequence)))
            assert reply["actions"].dtype == np.float32
            assert (reply["sequence"], reply["valid_until_ms"]) == (sequence, 800.0)
            assert 0 < reply["policy_timing"]["infer_ms"] <= reply["observation_age_ms"] < 10_000
            assert reply["safety"] == {"mode": "off", "reasons": []}
        assert reply["server_timing"]["prev_total_ms"] > 0
        told = robot.metadata
        assert (told["action_horizon"], told["execute"], told["rate"], told["memory"]) == (8, 4, 10.0, False)
        assert told["spec"]["actions"] == list(SPEC.actions)
        assert told["keys"]["libero"]["cameras"] == {"front": "observation/image", "wrist": "observation/wrist_image"}


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"\xc1", "not msgpack with numpy arrays"),
        ("hello", "a text frame; observations are binary frames"),
        (pack([1]), "list; an observation is a map"),
        (pack({}), "this observation has nothing; missing: "),
        (pack({**message(), "observation/state": np.zeros(7)}), "state: 7 numbers; expected 8"),
        (pack({**message(), "observation/state": np.full(8, np.nan)}), "state: x is nan; each entry must be finite"),
        (pack({**message(), "prompt": "go " * 17}), "instruction of 17 words, at most 16 are taken"),
    ],
)
def test_an_error_is_a_sentence_and_the_end_of_that_session_alone(
    server: Server, sent: str | bytes, sentence: str
) -> None:
    with client(server) as robot, raw(server) as broken:
        healthy(server, robot, 0)
        broken.send(sent)
        told = broken.recv(10)
        assert isinstance(told, str) and sentence in told and "\n" not in told
        with pytest.raises(ConnectionClosedError) as closed:
            broken.recv(10)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
        healthy(server, robot, 1)


def test_what_changes_for_the_worse_in_mid_session_is_refused(server: Server) -> None:
    with client(server) as robot:
        healthy(server, robot, 0)
        with pytest.raises(Refused, match="camera 'front': float32"):
            robot.infer({**message(), "observation/image": message()["observation/image"].astype(np.float32)})
        time.sleep(0.1)
        healthy(server, robot, 1)  # in a new session


def plans(policy: Policy, seeds: list[int]) -> list[np.ndarray]:
    """What a policy with memory does through one episode."""
    controller = Controller(policy, execute=policy.config.execute)
    chunks = []
    for seed in seeds:
        sent = message(seed)
        images = {"front": sent["observation/image"][None], "wrist": sent["observation/wrist_image"][None]}
        observation = Observation(images, sent["observation/state"][None], [sent["prompt"]])
        chunks.append(controller.plan(observation)[0])
    return chunks


def through(robot: Client, seeds: list[int], **more: Any) -> list[np.ndarray]:
    return [robot.infer({**message(seed), **more})["actions"] for seed in seeds]


def test_each_session_has_its_own_memory_and_a_reset_empties_it() -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3), action_horizon=4, execute=4)
    whole, late = plans(policy, [0, 1, 2]), plans(policy, [2])
    assert not np.allclose(whole[2], late[0], atol=1e-4)
    with serving(policy) as server, client(server) as one, client(server) as other:
        close(np.stack(through(one, [0, 1])), np.stack(whole[:2]))
        close(np.stack(through(other, [2])), np.stack(late))
        close(np.stack(through(one, [2])), np.stack(whole[2:]))
        assert one.reset()["reset"] is True
        close(np.stack(through(one, [2])), np.stack(late))
        for mark in ({"episode": 1}, {"episode_index": np.int64(2)}, {"reset": True}, {"reset": np.bool_(True)}):
            through(one, [0, 1])
            close(np.stack(through(one, [2], **mark)), np.stack(late))
        through(one, [0], reset=True)
        close(np.stack(through(one, [1], episode=np.zeros(3))), np.stack(whole[1:2]))  # no mark, and no fault


@pytest.mark.parametrize("reset", [True, False])
def test_a_new_instruction_begins_an_episode_as_configured(reset: bool) -> None:
    policy = small_policy(memory=RecurrentConfig(steps=3), action_horizon=4, execute=4)
    told = "put the green cube in the bowl"
    with serving(policy, reset_on_instruction=reset) as server, client(server) as one, client(server) as other:
        through(one, [0, 1])
        changed = through(one, [2], prompt=told)[0]
        assert np.allclose(changed, through(other, [2], prompt=told)[0], atol=1e-5) is reset


def test_robots_that_ask_together_are_computed_together(policy: Policy) -> None:
    with serving(policy, budget_ms=500.0) as server:
        robots = [client(server) for _ in range(4)]
        found: dict[int, np.ndarray] = {}
        barrier = threading.Barrier(4)

        def ask(i: int) -> None:
            barrier.wait()
            found[i] = robots[i].infer(message(i))["actions"]

        for _ in range(2):
            threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for i in range(4):
            close(found[i], expected(policy, message(i)))
        assert server.metrics.batch.counts[2] >= 1, "three or four in one batch"
        for robot in robots:
            robot.close()


def test_one_bad_row_does_not_spoil_a_batch(policy: Policy) -> None:
    with serving(policy, budget_ms=500.0) as server, client(server) as robot, raw(server) as broken:
        healthy(server, robot, 0)
        broken.send(pack({**message(), "prompt": "go " * 17}))
        healthy(server, robot, 1)
        assert "17 words" in str(broken.recv(10))


def test_health_and_numbers(policy: Policy) -> None:
    with serving(policy, deadline_ms=60_000) as server, client(server) as robot:
        assert get(server, "/healthz") == (200, "OK\n")
        healthy(server, robot, 0)
        with raw(server) as broken:
            broken.send(b"\xc1")
            broken.recv(10)
        assert eventually(lambda: server.metrics.sessions == 1)
        status, text = get(server, "/metrics")
        assert status == 200
        for line in (
            "plait_latency_ms_count 1",
            'plait_latency_ms_bucket{le="+Inf"} 1',
            "plait_deadline_misses_total 0",
            'plait_faults_total{kind="malformed"} 1',
            "plait_sessions 1",
            "plait_sessions_opened_total 2",
        ):
            assert f"{line}\n" in text
        assert get(server, "/other")[0] == 426


def test_a_slow_answer_is_a_miss(policy: Policy) -> None:
    with serving(policy, deadline_ms=0.001) as server, client(server) as robot:
        healthy(server, robot, 0)
        assert eventually(lambda: server.metrics.misses == 1)


def test_the_api_key(policy: Policy) -> None:
    with serving(policy, api_key="schlüssel") as server:
        for key in (None, "schlussel", "schlüssel2"):
            with pytest.raises(Refused, match="the API key is missing or wrong"):
                client(server, api_key=key)
        assert get(server, "/healthz")[0] == 200
        assert get(server, "/metrics")[0] == 401


def test_the_right_api_key(policy: Policy) -> None:
    with serving(policy, api_key="a key") as server:
        with client(server, api_key="a key") as robot:
            healthy(server, robot, 0)
        assert get(server, "/metrics", {"Authorization": "Api-Key a key"})[0] == 200


def test_two_api_keys_are_none(policy: Policy) -> None:
    with serving(policy, api_key="a key") as server, socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + 2 * b"Authorization: Api-Key a key\r\n" + b"\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_sessions_beyond_the_limit_are_refused_until_one_ends(policy: Policy) -> None:
    with serving(policy, sessions=1) as server:
        with client(server) as robot:
            with pytest.raises(ConnectionError, match="1 sessions are open, which is all"):
                client(server, wait=0.1)
            healthy(server, robot, 0)
        assert eventually(lambda: server.metrics.sessions == 0)
        with client(server) as robot:
            healthy(server, robot, 1)


def test_a_message_that_is_too_large_and_too_many_messages(policy: Policy) -> None:
    with serving(policy, message_bytes=20_000, rate_limit=5) as server, client(server) as robot:
        healthy(server, robot, 0)
        with raw(server) as broken:
            broken.send(bytes(20_001))
            with pytest.raises(ConnectionClosedError) as closed:
                broken.recv(10)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
        with raw(server) as hasty:
            told: Any = b""
            with suppress(ConnectionClosedError):
                for _ in range(20):
                    hasty.send(pack({"reset": True}))
            while isinstance(told, bytes):
                told = hasty.recv(10)
            assert told.startswith("more than 5 messages a second")
        healthy(server, robot, 1)


def test_an_answer_to_what_is_not_the_newest_is_not_computed(policy: Policy) -> None:
    with serving(policy) as server, raw(server) as eager:
        for seed in range(6):
            eager.send(pack(message(seed)))
        replies = [unpack(eager.recv(10)) for _ in range(6)]
        assert [reply["sequence"] for reply in replies] == [1, 2, 3, 4, 5, 6]
        assert server.metrics.faults["superseded"] >= 1
        close(replies[-1]["actions"], expected(policy, message(5)))
        old = [reply for reply in replies if reply["superseded"]]
        assert len(old) == server.metrics.faults["superseded"]
        assert all(reply["actions"].shape == (0, 7) for reply in old)


def test_what_waits_while_the_policy_thinks_is_neither_computed_nor_taken_for_new() -> None:
    policy, asked, go, resets = small_policy(), threading.Event(), threading.Event(), []
    step = policy.step

    def held(inputs: Any, memory: Any, reset: Any) -> Any:
        resets.append(reset.tolist())
        asked.set()
        assert go.wait(20)
        return step(inputs, memory, reset)

    with serving(policy) as server, raw(server) as eager:
        policy.step = held  # it is warm by now
        eager.send(pack(message(0)))
        assert asked.wait(20)
        eager.send(pack({**message(1), "reset": True}))
        for seed in range(2, 30):
            eager.send(pack(message(seed)))
        (session,) = server._sessions
        assert eventually(lambda: session._waiting.qsize() == 29), "it is read at once"
        time.sleep(0.1)
        go.set()
        replies = [unpack(eager.recv(10)) for _ in range(30)]
        policy.step = step
        close(replies[-1]["actions"], expected(policy, message(29)))
    assert [reply["superseded"] for reply in replies] == [False] + [True] * 28 + [False]
    assert replies[-1]["observation_age_ms"] >= 100
    assert resets == [[True], [True]], "the episode that the second message begins is not forgotten"


def test_a_client_that_never_reads_is_dropped() -> None:
    policy = small_policy(action_horizon=1024)
    with serving(policy, send_s=0.3, rate_limit=1e6) as server, client(server) as robot:
        deaf = raw(server, max_queue=1)
        sent = pack(message())

        def flood() -> None:
            try:
                for _ in range(5000):
                    deaf.send(sent)
                    time.sleep(0.005)  # what is superseded has a short answer, of which none would fill the buffers
            except (ConnectionClosedError, OSError):
                pass

        thread = threading.Thread(target=flood)
        thread.start()
        healthy(server, robot, 0)
        assert eventually(lambda: server.metrics.faults["slow_reader"] == 1, 20)
        assert eventually(lambda: server.metrics.sessions == 1)
        thread.join(20)
        assert not thread.is_alive()
        healthy(server, robot, 1)


def test_a_client_that_reads_slowly_gets_its_answer_and_delays_nobody() -> None:
    policy = small_policy(action_horizon=2048)  # an answer of 57 KB
    with serving(policy) as server, client(server) as robot:
        link = Link(server.port).open()
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.send(pack(message(3)))
        for seed in range(5):
            healthy(server, robot, seed)
            time.sleep(0.05)
        slowly, left = b"", int.from_bytes(link.stream.read(4)[2:], "big")
        while len(slowly) < left:
            slowly += link.stream.read(min(1000, left - len(slowly)))
            time.sleep(0.001)
        close(unpack(slowly)["actions"], expected(policy, message(3)))
        link.close()


def handshake(server: Server) -> socket.socket:
    """A socket that has opened a session and does nothing of its own accord."""
    link = socket.create_connection(("127.0.0.1", server.port))
    link.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert link.recv(12) == b"HTTP/1.1 101"
    return link


def test_half_open_sockets_are_dropped(policy: Policy) -> None:
    with serving(policy, ping_s=0.1, send_s=0.3) as server, client(server) as robot:
        silent = handshake(server)  # answers no ping
        stranger = socket.create_connection(("127.0.0.1", server.port))  # says nothing at all
        assert server.metrics.sessions == 2 or eventually(lambda: server.metrics.sessions == 2)
        assert eventually(lambda: server.metrics.sessions == 1, 5)
        stranger.settimeout(5)
        while stranger.recv(4096):
            pass
        healthy(server, robot, 0)
        silent.close()
        stranger.close()


def test_clients_that_leave_in_the_middle(server: Server) -> None:
    with client(server) as robot:
        for seed in range(5):
            leaver = raw(server)
            leaver.send(pack(message(seed)))
            leaver.socket.shutdown(socket.SHUT_RDWR)
            healthy(server, robot, seed)
        half = handshake(server)
        half.sendall(b"\x82\xfe")  # the head of a frame, and no more
        half.close()
        healthy(server, robot, 9)
        assert eventually(lambda: server.metrics.sessions == 1)


def test_a_client_that_resets_the_connection_in_the_middle_of_an_answer_disturbs_nobody() -> None:
    policy = small_policy(action_horizon=2048)  # an answer of 57 KB
    with serving(policy) as server, client(server) as robot:
        for seed in range(3):
            link = Link(server.port).open()
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.send(pack(message(seed)))
            assert len(link.stream.read(1000)) == 1000
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, no FIN
            link.close()
            healthy(server, robot, seed)
        assert eventually(lambda: server.metrics.sessions == 1)
        healthy(server, robot, 9)


def test_bfloat16_is_close_to_float32() -> None:
    policy = small_policy()
    wanted = expected(policy, message())
    with serving(policy, precision="bfloat16") as server, client(server) as robot:
        found = robot.infer(message())["actions"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert not np.allclose(found, wanted, rtol=1e-5, atol=1e-6), "it was multiplied in another format"


def test_two_hundred_connections(policy: Policy) -> None:
    async def one(server: Server, seed: int) -> np.ndarray:
        async with connect_async(f"ws://127.0.0.1:{server.port}", compression=None, proxy=None) as connection:
            await connection.recv()
            await connection.send(pack(message(seed)))
            return unpack(await connection.recv())["actions"]  # type: ignore[arg-type]

    async def everybody(server: Server) -> list[np.ndarray]:
        return await asyncio.gather(*(one(server, seed) for seed in range(200)))

    with serving(policy, budget_ms=20.0) as server:
        found = asyncio.run(everybody(server))
        for seed in range(0, 200, 20):
            close(found[seed], expected(policy, message(seed)))
        assert server.metrics.opened == 200
        assert eventually(lambda: server.metrics.sessions == 0)


def test_a_failing_policy_ends_the_sessions_that_asked_and_no_other(policy: Policy) -> None:
    broken = small_policy()
    with serving(broken) as server, client(server) as waits, client(server) as asks:
        step = broken.step

        def fail(*_: Any) -> Any:
            raise RuntimeError("out of memory")

        broken.step = fail
        with pytest.raises(Refused, match="RuntimeError: out of memory"):
            asks.infer(message())
        broken.step = step
        healthy(server, waits, 0)
        assert server.metrics.faults["failed"] == server.metrics.faults["policy_failed"] == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls(policy: Policy, tmp_path: Path) -> None:
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    with serving(policy, certificate=certificate, private_key=key) as server:
        with Client("wss://localhost", server.port, ca=certificate, timeout=20) as robot:
            healthy(server, robot, 0)
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection(("localhost", server.port)) as link:
            context.wrap_socket(link, server_hostname="localhost")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_files_that_tls_cannot_use(policy: Policy, tmp_path: Path) -> None:
    """Broken ones, two that do not belong together, and a key with a password, for which nobody is asked."""
    key, locked, nothing = (tmp_path / name for name in ("key.pem", "locked.pem", "nothing.pem"))
    certificate, other = tmp_path / "certificate.pem", tmp_path / "other.pem"
    for wanted, own in ((certificate, key), (other, tmp_path / "other_key.pem")):
        command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {own} -out {wanted} -subj /CN=localhost"
        subprocess.run(command.split(), check=True, capture_output=True)
    command = f"openssl rsa -in {key} -aes256 -passout pass:secret -out {locked}"
    subprocess.run(command.split(), check=True, capture_output=True)
    nothing.write_text("nothing")
    for one, two in ((nothing, key), (certificate, nothing), (other, key), (certificate, locked)):
        with pytest.raises(
            ValueError, match=f"certificate {one}, private_key {two}: they are no pair that TLS can use"
        ):
            Server(policy, ServeConfig(certificate=str(one), private_key=str(two)))
    for ca in (nothing, tmp_path / "none.pem"):
        with pytest.raises(ValueError, match=f"ca: {ca} holds no certificate that can be read"):
            Client("wss://localhost", 1, ca=str(ca))


def test_settings_that_cannot_be(policy: Policy) -> None:
    for settings, sentence in (
        ({"port": 65536}, "port: 65536 is not between 0 and 65535"),
        ({"certificate": "a"}, "TLS needs both"),
        ({"api_key": ""}, "api_key: the key is empty"),
        ({"api_key": " \t"}, "api_key: the key is empty"),
        (
            {"api_key": "a key "},
            "api_key: the key has blanks at its ends, which HTTP takes away; leave it out, or say one",
        ),
        ({"batch": 0}, "batch: 0 is too small"),
        ({"keys": {"a": "front", "b": "front"}}, "keys: 'a' and 'b' name the same camera, 'front'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ServeConfig(**settings)
    with pytest.raises(ValueError, match="keys: no camera 'top'; the policy has \\['front', 'wrist'\\]"):
        Server(policy, ServeConfig(keys={"a": "top"}))
    with pytest.raises(FileNotFoundError), serving(policy, certificate="/no", private_key="/no"):
        pass
