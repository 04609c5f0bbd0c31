"""A server on loopback in a thread of this process, and what its policy gives without it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from plait.policy import Policy
from plait.serve.client import Client
from plait.serve.server import ServeConfig, Server
from plait.types import Observation


@contextmanager
def serving(policy: Policy, envelope: Any = None, **config: Any) -> Iterator[Server]:
    """The running server; its port is ``server.port``."""
    loop, server = asyncio.new_event_loop(), Server(policy, ServeConfig(**{"port": 0, **config}), envelope)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    run = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)  # noqa: E731
    try:
        run(server.__aenter__())
        yield server
    finally:
        run(server.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def client(server: Server, **options: Any) -> Client:
    return Client("127.0.0.1", server.port, **{"timeout": 20.0, **options})


def expected(policy: Policy, sent: dict[str, Any]) -> np.ndarray:
    """The chunk that the bare policy gives for a message."""
    images = {"front": sent["observation/image"][None], "wrist": sent["observation/wrist_image"][None]}
    observation = Observation(images, sent["observation/state"][None], [sent["prompt"]])
    return policy.predict(policy.prepare(observation))[0].numpy()
