"""Hostile messages, see mutations, at the codec and at a server that serves others meanwhile.

python tests/fuzzing.py --codec 1000000 --server 100000     # what make fuzz does
"""

import argparse
import json
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from messages import message
from mutations import LIMITS, Mutator, cut, flip
from plait.serve.client import Client, Late
from plait.serve.codec import Malformed, pack, unpack


def fuzz_codec(count: int, mutator: Mutator) -> Counter[str]:
    """How many messages were ``taken``, ``refused``, and ``oversized`` (refused for their size); anything else is
    raised.
    """
    found = Counter[str]()
    for _ in range(count):
        sent = mutator.next()
        large = len(sent) > LIMITS.bytes
        try:
            value = unpack(sent, LIMITS)
        except Malformed as error:
            assert len(str(error)) < 400, str(error)
            assert large == str(error).startswith("a message of"), str(error)
            mutator.learn(sent, str(error))
            found["oversized" if large else "refused"] += 1
        else:
            assert not large, f"{len(sent)} bytes were taken"
            again = pack(value)
            assert pack(unpack(again)) == again, "what was taken is something that can be sent"
            mutator.learn(sent, f"taken {type(value)}")
            found["taken"] += 1
    return found


class Link:
    """A websocket by hand, which sends what no library would."""

    OPENING = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def open(self) -> "Link":
        self.socket.sendall(self.OPENING)
        while self.stream.readline() != b"\r\n":
            pass
        assert self.receive()[0] == 2, "the metadata come first"
        return self

    def send(self, payload: bytes, opcode: int = 2) -> None:
        """One frame, whose mask of zeros leaves the payload as it is."""
        size = len(payload)
        short = size if size < 126 else 126 if size < 2**16 else 127
        length = b"" if size < 126 else struct.pack(">H" if short == 126 else ">Q", size)
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | short]) + length + bytes(4) + payload)

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload; (8, b"") when the connection has ended."""
        head = self.stream.read(2)
        if len(head) < 2:
            return 8, b""
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, self.stream.read(size)

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


def fuzz_server(port: int, count: int, mutator: Mutator) -> Counter[str]:
    """What the server made of so many messages: ``answered``, ``refused`` (a sentence, then close code 1011),
    ``oversized`` (close code 1009), ``closed`` (by the websocket library, for anything else), or, of what is no
    message, ``garbage``. Anything else is an AssertionError. The server's ``message_bytes`` are ``LIMITS.bytes``.
    """
    found, link = Counter[str](), None
    for _ in range(count):
        link = link or Link(port).open()
        if mutator.random.random() < 0.05:
            _garbage(mutator.random, port)
            found["garbage"] += 1
            continue
        sent = mutator.next()
        opcode = 1 if mutator.random.random() < 0.03 else 2
        link.send(sent, opcode)
        opcode, told = link.receive()
        assert opcode in (1, 2, 8), opcode
        large = (opcode, told[:2]) == (8, struct.pack(">H", 1009))
        assert large == (len(sent) > LIMITS.bytes), f"{len(sent)} bytes: opcode {opcode}, {told[:200]}"
        if opcode == 2:
            mutator.learn(sent, str(sorted(unpack(told))))
            found["answered"] += 1
            continue
        if opcode == 1:
            mutator.learn(sent, told.decode())
            opcode, told = link.receive()
            assert (opcode, told[:2]) == (8, struct.pack(">H", 1011))
            found["refused"] += 1
        else:
            found["oversized" if large else "closed"] += 1
        link.close()
        link = None
    if link:
        link.close()
    return found


def _garbage(draw: random.Random, port: int) -> None:
    """Bytes that are no HTTP request, or no frame."""
    link = Link(port)
    try:
        if draw.random() < 0.5:
            link.socket.sendall(flip(draw, cut(draw, Link.OPENING, []), []))
        else:
            link.open().socket.sendall(draw.randbytes(draw.choice((1, 2, 14, 500))))
    except OSError:  # it has closed already
        pass
    link.close()


class Healthy:
    """Robots, each in a thread of its own with observations of its own, which check their answers against the bare
    policy's.

    Attributes:
        checked: of each robot, its answers.
        late: answers that came when the chunk was over.
        slowest: seconds, of all of them.
    """

    def __init__(self, policy: Any, port: int, robots: int = 4) -> None:
        from serving import expected

        self.port, self.checked, self.late, self.slowest = port, [0] * robots, 0, 0.0
        self.wrong: list[str] = []
        sent = [[message(8 * robot + seed) for seed in range(8)] for robot in range(robots)]
        self._right = [[(each, expected(policy, each)) for each in own] for own in sent]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(robot,)) for robot in range(robots)]

    def __enter__(self) -> "Healthy":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        try:
            with Client(port=self.port, timeout=30, robot=f"healthy {number}") as robot:
                while not self._stop.is_set():
                    self._ask(robot, number)
                    time.sleep(0.05)
        except Exception as error:
            self.wrong.append(f"robot {number}: {error!r}")

    def _ask(self, robot: Client, number: int) -> None:
        (sent, right), start = self._right[number][self.checked[number] % 8], time.monotonic()
        try:
            reply = robot.infer(sent)
        except Late:
            self.late += 1
        else:
            if any("has not answered" in why for why in reply["safety"]["reasons"]):  # as late, for the server
                self.late += 1
            elif not np.allclose(reply["actions"], right, rtol=1e-4, atol=1e-5):
                told = f"{reply['safety']}, {reply['actions']}"
                self.wrong.append(f"robot {number}, answer {self.checked[number]}: {told}")
            self.checked[number] += 1
        self.slowest = max(self.slowest, time.monotonic() - start)


def main() -> None:
    """Fuzz the codec in this process, and a server in another one or the one at --port."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--codec", type=int, default=0, help="messages")
    options.add_argument("--server", type=int, default=0, help="messages")
    options.add_argument("--port", type=int, help=f"of a server whose message_bytes are {LIMITS.bytes}")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    if asked.port is not None:
        print(json.dumps(fuzz_server(asked.port, asked.server, Mutator(asked.seed))))
        return
    if asked.codec:
        print(json.dumps({"codec": _measured_codec(asked.codec, asked.seed)}), flush=True)
    if asked.server:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"server": _measured_server(Path(folder), asked.server, asked.seed)}), flush=True)


def _measured_codec(count: int, seed: int) -> dict[str, Any]:
    fuzz_codec(min(count, 20_000), Mutator(seed + 1))  # so that memory has settled
    before = _peak()
    told = _measured(fuzz_codec, count, seed, os.getpid())
    return {**told, "peak_grown_mib": round(_peak() - before, 1)}


def _measured_server(folder: Path, count: int, seed: int) -> dict[str, Any]:
    from plait import checkpoint
    from policies import small_policy

    policy = small_policy()
    checkpoint.save(policy, folder / "policy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "plait", "serve", str(folder / "policy"), "--port", str(port)]
    command += ["--message-bytes", str(LIMITS.bytes)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        Client(port=port, wait=60).close()
        with Healthy(policy, port) as robots:
            fuzz_server(port, min(count, 2000), Mutator(seed + 1))  # so that memory has settled
            told = _measured(partial(fuzz_server, port), count, seed, server.pid)
        assert server.poll() is None and not robots.wrong, robots.wrong[:3]
        assert min(robots.checked) > 0 and not robots.late, f"{robots.late} late, slowest {robots.slowest:.2f} s"
    finally:
        server.terminate()
    assert server.wait(20) == 0
    healthy = {"answers": robots.checked, "wrong": len(robots.wrong), "slowest_ms": round(1e3 * robots.slowest)}
    return {**told, "healthy_sessions": healthy}


def _measured(fuzz: Callable[[int, Mutator], Counter[str]], count: int, seed: int, pid: int) -> dict[str, Any]:
    """What was found, and the memory of process ``pid`` at the start, half-way and at the end."""
    mutator, found, start, memory = Mutator(seed), Counter[str](), time.monotonic(), [_memory(pid)]
    for part in (count // 2, count - count // 2):
        found += fuzz(part, mutator)
        memory.append(_memory(pid))
    mib = [round(each, 1) for each in memory]
    told = {"messages": count, "message_bytes": LIMITS.bytes, "seconds": time.monotonic() - start}
    return {**told, **found, "memory_mib": mib}


def _memory(pid: int) -> float:
    """Resident, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _peak() -> float:
    """The most that this process ever had resident, in MiB. ``getrusage`` would count its parent's too."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
