"""The client: light, never waits for longer than it is told, and comes back by itself."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, serve

from messages import message
from plait import checkpoint
from plait.serve.client import Client, Late, Refused, _located
from plait.serve.codec import Malformed, pack, unpack
from policies import small_policy
from serving import expected


def test_it_needs_neither_torch_nor_the_rest_of_plait() -> None:
    code = (
        "import sys, plait.serve.client\n"
        "light = {'plait', 'plait.serve', 'plait.serve.client', 'plait.serve.codec'}\n"
        "print({name for name in sys.modules if name.split('.')[0] == 'plait'} - light, 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set() False\n"


@contextmanager
def answering(
    answer: Callable[[ServerConnection, dict[str, Any], int], None], before: Any = None, **metadata: Any
) -> Iterator[int]:
    """The port of a server that calls ``answer`` with each message and its number."""

    def handle(connection: ServerConnection) -> None:
        connection.send(pack({"execute": 1, **metadata}))
        for number, sent in enumerate(connection, start=1):
            answer(connection, unpack(sent), number)  # type: ignore[arg-type]

    with serve(handle, "127.0.0.1", 0, compression=None, process_request=before, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def reply(number: int, **more: Any) -> bytes:
    return pack({"actions": np.full((2, 3), number, np.float32), "sequence": number, "hold": [0.0, 0.0, 1.0], **more})


def slow_second(connection: ServerConnection, _: dict[str, Any], number: int) -> None:
    time.sleep(0.4 if number == 2 else 0)
    connection.send(reply(number))


def test_a_late_answer_is_held_and_never_executed_later() -> None:
    with answering(slow_second) as port, Client(port=port, timeout=0.2, late="hold") as robot:
        assert robot.infer({})["actions"][0, 0] == 1
        start = time.monotonic()
        held = robot.infer({})
        assert 0.15 < time.monotonic() - start < 0.35
        assert held["late"] is True and held["actions"].tolist() == [[0.0, 0.0, 1.0]]
        assert held["safety"]["mode"] == "hold" and "within 0.2 s" in held["safety"]["reasons"][0]
        time.sleep(0.3)  # the late answer is here by now
        assert robot.infer({})["actions"][0, 0] == 3


def test_a_late_answer_raises_if_asked_to() -> None:
    with answering(slow_second) as port, Client(port=port, timeout=0.2) as robot:
        robot.infer({})
        with pytest.raises(Late, match=r"no answer from ws://127\.0\.0\.1:\d+ within 0\.2 s"):
            robot.infer({})
        time.sleep(0.3)
        assert robot.infer({})["actions"][0, 0] == 3


def test_before_the_first_answer_there_is_nothing_to_hold() -> None:
    def never(*_: Any) -> None:
        pass

    with answering(never) as port, Client(port=port, timeout=0.1, late="hold") as robot, pytest.raises(Late):
        robot.infer({})


def test_a_server_that_does_not_read_holds_up_nobody() -> None:
    def asleep(*_: Any) -> None:
        time.sleep(1.5)

    large = {"image": np.zeros(8_000_000, np.uint8)}
    with answering(asleep) as port, Client(port=port, timeout=0.2) as robot:
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(Late):
                robot.infer(large)
            assert time.monotonic() - start < 1.2


@contextmanager
def trickling() -> Iterator[int]:
    """The port of a server that reads all the time, but slowly, and little of it lies in between."""

    def handle(listener: socket.socket) -> None:
        protocol, (link, _) = ServerProtocol(), listener.accept()
        with link, suppress(OSError):
            while not (events := protocol.events_received()):
                protocol.receive_data(link.recv(4096))
            protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
            protocol.send_binary(pack({"execute": 1}))
            link.sendall(b"".join(protocol.data_to_send()))
            while not done.wait(0.01) and link.recv(20_000):
                pass

    done = threading.Event()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=handle, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


def test_a_server_that_reads_slowly_holds_up_nobody() -> None:
    with trickling() as port, Client(port=port, timeout=0.2) as robot:
        start = time.monotonic()
        with pytest.raises(Late, match=r"the connection to ws://127\.0\.0\.1:\d+ is lost \(timed out\)"):
            robot.infer({"image": np.zeros(8_000_000, np.uint8)})
        assert time.monotonic() - start < 0.5
        with pytest.raises(Late, match="the next attempt is in 0"):
            robot.infer({})


def test_a_late_answer_without_a_number_is_never_taken_for_the_next() -> None:
    def unnumbered(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        if number != 2:  # the second is answered when the third comes
            moment = 2 if number == 3 else sent["moment"]
            connection.send(pack({"actions": np.full((1, 3), moment, np.float32)}))

    with answering(unnumbered) as port, Client(port=port, timeout=0.2) as robot:
        assert robot.infer({"moment": 1})["actions"][0, 0] == 1
        with pytest.raises(Late):
            robot.infer({"moment": 2})
        time.sleep(0.06)
        assert robot.infer({"moment": 3})["actions"][0, 0] == 3


def test_where_answers_have_numbers_a_late_one_does_not_end_the_session() -> None:
    def second(connection: ServerConnection, _: dict[str, Any], number: int) -> None:
        for answered in range(1, number + 1 if number > 1 else 0):
            connection.send(reply(answered))

    with answering(second, server="plait 1") as port, Client(port=port, timeout=0.2) as robot:
        with pytest.raises(Late):
            robot.infer({})
        assert robot.infer({})["sequence"] == 2


NUMBERS = np.zeros((2, 3), np.float32)
MALFORMED = [
    (b"\xc1", "not msgpack"),
    (pack([1]), "list; expected a map"),
    (pack({"sequence": 2}), r"actions: NoneType; expected numbers \[horizon, a\]"),
    (pack({"actions": [[0.0, 0.0, 0.0]]}), "actions: list"),
    (pack({"actions": NUMBERS[0]}), r"actions: float32 \[3\]"),
    (pack({"actions": NUMBERS[:0]}), r"actions: float32 \[0, 3\]"),
    (pack({"actions": NUMBERS > 0}), r"actions: bool \[2, 3\]"),
    (reply(2, actions=np.float32([[0, 0, np.nan]])), "actions: NaN or infinite"),
    (reply(2, actions=np.float32([[0, 0, -np.inf]])), "actions: NaN or infinite"),
    (reply(2, sequence="2"), "sequence: '2'; expected a whole number"),
    (reply(2, hold=[0.0, 0.0]), r"hold: \[0.0, 0.0\]; expected 3 finite numbers"),
    (reply(2, hold=[0.0, 0.0, np.nan]), "hold: .*nan.*; expected 3 finite numbers"),
    (reply(2, hold="still"), "hold: 'still'"),
]


@pytest.mark.parametrize(("answer", "why"), MALFORMED, ids=[why.split("; ")[0] for _, why in MALFORMED])
def test_what_holds_no_actions_is_never_executed(answer: bytes, why: str) -> None:
    def bad_second(connection: ServerConnection, _: dict[str, Any], number: int) -> None:
        connection.send(answer if number == 2 else reply(number))

    with answering(bad_second) as port:
        with Client(port=port) as robot:
            robot.infer({})
            with pytest.raises(Malformed, match=rf"the answer of ws://\S+ cannot be executed \({why}"):
                robot.infer({})
        with Client(port=port, late="hold") as robot:
            robot.infer({})
            held = robot.infer({})
            assert held["late"] is True and held["actions"].tolist() == [[0.0, 0.0, 1.0]]
            assert held["safety"]["mode"] == "hold" and "cannot be executed" in held["safety"]["reasons"][0]
            time.sleep(0.06)
            assert robot.infer({})["sequence"] == 1, "in a new session"


def test_a_server_of_something_else() -> None:
    def handle(connection: ServerConnection) -> None:
        connection.send(pack(["hello"]))

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(Malformed, match=r"is no server of policies \(list; expected a map\); check host and port"):
            Client(port=server.socket.getsockname()[1])
        server.shutdown()
        thread.join()


def test_an_observation_that_cannot_be_sent_is_not_counted() -> None:
    def once(connection: ServerConnection, _: dict[str, Any], number: int) -> None:
        connection.send(reply(number))

    with answering(once) as port, Client(port=port, timeout=0.3) as robot:
        with pytest.raises(TypeError, match="object cannot be sent"):
            robot.infer({"image": object()})
        assert robot.infer({})["sequence"] == 1


def test_only_the_newest_answer_says_where_to_hold() -> None:
    def fewer(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        if "late" not in sent:
            connection.send(reply(number, **sent))

    with answering(fewer) as port, Client(port=port, timeout=0.1, late="hold") as robot:
        robot.infer({})
        assert robot.infer({"late": 1})["late"] is True
        robot.reset()
        with pytest.raises(Late):
            robot.infer({"late": 1})
        robot.infer({})
        robot.infer({"hold": None})  # an envelope no longer
        with pytest.raises(Late):
            robot.infer({"late": 1})


def test_a_reset_without_an_answer_raises_whatever_late_says() -> None:
    def deaf(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        if "reset" not in sent:
            connection.send(reply(number))

    with answering(deaf) as port, Client(port=port, timeout=0.1, late="hold") as robot:
        robot.infer({})
        with pytest.raises(Late):
            robot.reset()


def test_after_an_interruption_the_next_answer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a message is sent: the server may not have counted it."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with (
        answering(lambda connection, _, number: connection.send(reply(number)), server="plait 1") as port,
        Client(port=port, timeout=0.3) as robot,
    ):
        robot.infer({})
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(robot._connection, "send", interrupted)
            robot.infer({})
        time.sleep(0.06)
        assert robot.infer({})["sequence"] == 1
        robot.infer({})
        robot.close()
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(robot, "_receive", interrupted)
            robot.infer({})
        time.sleep(0.06)
        assert robot.infer({})["sequence"] == 1, "what the new connection says of itself was no answer"


def test_an_answer_whose_actions_are_over_when_it_comes_is_not_taken() -> None:
    def far_away(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        time.sleep(sent["s"])
        connection.send(reply(number, safety={"mode": sent["mode"], "reasons": []}, valid_until_ms=100.0))

    with answering(far_away, server="plait 1") as port, Client(port=port, timeout=5, late="hold") as robot:
        assert "late" not in robot.infer({"s": 0, "mode": "nominal"})
        held = robot.infer({"s": 0.15, "mode": "nominal"})
        assert held["late"] and "for which it is valid 0.10 s" in held["safety"]["reasons"][0]
        assert "late" not in robot.infer({"s": 0.15, "mode": "off"}), "nothing is held back without an envelope"


def test_the_server_is_told_of_which_answers_the_robot_has_heard() -> None:
    told: list[Any] = []

    def noting(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        told.append(sent.get("heard"))
        time.sleep(0.2 if number == 2 else 0)
        connection.send(reply(number))

    with answering(noting, server="plait 1") as port, Client(port=port, timeout=0.1, late="hold") as robot:
        for _ in range(2):
            robot.infer({})
        time.sleep(0.2)
        for _ in range(2):
            robot.infer({})
    assert told == [0, 1, 1, 3]


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="no connection to ws://127"):
        Client(port=port, wait=0.3)
    assert 0.25 < time.monotonic() - start < 1.0
    with pytest.raises(ValueError, match="late: 'wait'; say 'raise' or 'hold'"):
        Client(port=port, late="wait")


def test_a_refusal_ends_the_session_and_the_next_call_begins_another() -> None:
    def once(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        if "bad" in sent:
            connection.send("camera 'wrist' is missing")
            connection.close(1011)
        else:
            connection.send(reply(number))

    with answering(once) as port, Client(port=port) as robot:
        assert robot.infer({})["sequence"] == 1
        with pytest.raises(Refused, match="is missing"):
            robot.infer({"bad": 1})
        with pytest.raises(Late, match=r"no connection to .*; the next attempt is in 0\.0"):
            robot.infer({})
        time.sleep(0.1)
        assert robot.infer({})["sequence"] == 1


def test_a_server_that_is_full_or_fails_is_none_for_now() -> None:
    """A proxy's 502, and a server's 503, are over in a moment, as is a connection that cannot be had."""
    statuses = iter([503, None, 502, 503])

    def refused(connection: ServerConnection, _: Any) -> Any:
        status = next(statuses, None)
        return connection.respond(status, "busy\n") if status else None

    with (
        answering(lambda connection, _, number: connection.send(reply(number)), refused) as port,
        Client(port=port, timeout=0.3, late="hold") as robot,
    ):
        assert "late" not in robot.infer({})
        robot.close()  # as if it were lost
        for _ in range(2):
            held = robot.infer({})
            assert held["actions"].tolist() == [[0.0, 0.0, 1.0]]
            assert held["safety"]["reasons"] == [f"no connection to ws://127.0.0.1:{port} (busy)"]
            time.sleep(robot._pause)
        assert "late" not in robot.infer({})


def test_a_new_session_begins_with_what_the_robot_was_told() -> None:
    """Its server may have been started anew. What a server says that does not number its answers, nobody needs."""
    told: list[dict[str, Any]] = []

    def noting(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        told.append({key: value for key, value in sent.items() if key not in ("reset", "heard")})
        mode = "nominal" if "reset" in sent else "stopped"
        if "lose" in sent:
            connection.close()
        else:
            connection.send(reply(number, safety={"mode": mode, "reasons": []}))

    def again(robot: Client) -> dict[str, Any]:
        robot.close()
        return robot.infer({})

    with answering(noting, server="plait 1") as port, Client(port=port) as robot:
        robot.infer({})
        robot.infer({})
        again(robot)
        robot.close()
        robot.reset()
        again(robot)
    known = {"hold": [0.0, 0.0, 1.0]}
    assert told == [{}, {}, {"stopped": True, **known}, {"stopped": True, **known}, known]
    told.clear()
    with answering(noting) as port, Client(port=port) as robot:
        robot.infer({})
        again(robot)
    assert told == [{}, {}]


def test_a_stop_is_remembered_until_a_reset_is_answered() -> None:
    told: list[Any] = []

    def deaf(connection: ServerConnection, sent: dict[str, Any], number: int) -> None:
        told.append(sent.get("stopped"))
        if "reset" not in sent:
            connection.send(reply(number, safety={"mode": "stopped", "reasons": []}))

    with answering(deaf, server="plait 1") as port, Client(port=port, timeout=0.1) as robot:
        robot.infer({})
        with pytest.raises(Late):
            robot.reset()
        robot.close()
        robot.infer({})
    assert told == [None, None, True]


@pytest.mark.parametrize(
    ("host", "port", "robot", "address", "path"),
    [
        ("robot.lab", 8000, "", "ws://robot.lab:8000", "/"),
        ("robot.lab:77", 8000, "", "ws://robot.lab:77", "/"),
        ("ws://robot.lab", 8000, "", "ws://robot.lab:8000", "/"),
        ("ws://robot.lab:77", 8000, "", "ws://robot.lab:77", "/"),
        ("WSS://robot.lab/arms", None, "", "wss://robot.lab", "/arms"),
        ("ws://robot.lab:77/?robot=left", 8000, "", "ws://robot.lab:77", "/?robot=left"),
        ("ws://robot.lab/?robot=left", 8000, "", "ws://robot.lab:8000", "/?robot=left"),
        ("wss://robot.lab/arms?key=1&robot=left", None, "right", "wss://robot.lab", "/arms?key=1&robot=right"),
        ("robot.lab", 77, "left arm", "ws://robot.lab:77", "/?robot=left+arm"),
        ("::1", 77, "", "ws://[::1]:77", "/"),
        ("[::1]:77", 8000, "", "ws://[::1]:77", "/"),
        ("ws://[::1]", 77, "", "ws://[::1]:77", "/"),
    ],
)
def test_addresses(host: str, port: int | None, robot: str, address: str, path: str) -> None:
    assert _located(host, port, robot) == (address, path)


@pytest.mark.parametrize("host", ["http://robot.lab", "", "ws://", "robot.lab:port", "ws://[::1", "robot.lab:99999"])
def test_no_address(host: str) -> None:
    with pytest.raises(ValueError, match=r"host: .*; say .* 'ws://robot.lab:8000/\?robot=left'"):
        Client(host, wait=0)


def launch(folder: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "plait", "serve", str(folder), "--port", str(port), "--batch", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """The robot holds meanwhile, goes on in a new session, and SIGTERM ends the second server cleanly."""
    policy = small_policy()
    checkpoint.save(policy, tmp_path / "policy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = launch(tmp_path / "policy", port)
    try:
        with Client(port=port, timeout=1.0, late="hold", wait=60) as robot:
            chunk = robot.infer(message())["actions"]
            np.testing.assert_allclose(chunk, expected(policy, message()), atol=1e-4)
            server.kill()
            server.wait()
            held = robot.infer(message())
            assert held["late"] is True
            assert held["actions"].tolist() == [[0.0] * 6 + [chunk[3, 6]]], (
                "no motion, and the gripper of the last step"
            )
            server = launch(tmp_path / "policy", port)
            until = time.monotonic() + 60
            while "late" in (answer := robot.infer(message(1))) and time.monotonic() < until:
                time.sleep(0.1)
            np.testing.assert_allclose(answer["actions"], expected(policy, message(1)), atol=1e-4)
            assert answer["sequence"] == 1
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0
            told = server.stdout.read() if server.stdout else ""
            assert told.startswith(f"serving at ws://127.0.0.1:{port} on cpu") and told.endswith("stopped\n")
            assert robot.infer(message())["late"] is True
    finally:
        server.kill()
        server.wait()
