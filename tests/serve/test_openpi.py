"""The robots of openpi: its own client, unchanged, and what it is used through."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from messages import message
from plait.policy import Policy
from plait.safety.calibration import Calibration
from plait.safety.envelope import Envelope, SafetyConfig
from plait.serve.server import Server
from policies import SPEC, small_policy
from serving import expected, serving

openpi = pytest.importorskip("openpi_client.websocket_client_policy", reason="needs openpi-client, see the Makefile")
pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # its way to connect


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


@pytest.fixture(scope="module", params=[False, True], ids=["bare", "envelope"])
def server(request: pytest.FixtureRequest, policy: Policy) -> Iterator[Server]:
    patient = SafetyConfig(stale_after=600)  # the machine that runs this may be busy
    calibration = Calibration.of(policy)
    with serving(policy, (lambda: Envelope(SPEC, patient, calibration)) if request.param else None) as server:
        yield server


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def connected(server: Server) -> Any:
    return openpi.WebsocketClientPolicy("127.0.0.1", server.port)


def test_its_client(server: Server) -> None:
    robot = connected(server)
    assert robot.get_server_metadata()["server"].startswith("plait ")
    for seed in range(3):
        close(robot.infer(message(seed))["actions"], expected(server.policy, message(seed)))
    with pytest.raises(RuntimeError, match="missing: 'observation/wrist_image' \\(camera 'wrist'\\)"):
        connected(server).infer({key: value for key, value in message().items() if "wrist" not in key})
    robot._ws.close()  # it has no method for that


def test_its_broker_of_chunks(server: Server) -> None:
    """It takes one step of every array in a reply, and asks again after so many."""
    from openpi_client.action_chunk_broker import ActionChunkBroker

    robot = connected(server)
    broker = ActionChunkBroker(robot, action_horizon=4)
    for step in range(10):
        reply = broker.infer(message(step))
        close(reply["actions"], expected(server.policy, message(step - step % 4))[step % 4])
        assert reply["sequence"] == 1 + step // 4 and reply["safety"]["mode"] in ("off", "nominal")
    robot._ws.close()
