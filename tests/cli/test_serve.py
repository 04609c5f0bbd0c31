"""``plait serve``: what it refuses, in one sentence. That it serves is tested in ``tests/serve``."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from plait import checkpoint
from plait.cli import main
from plait.cli.serve import API_KEY, greeting
from plait.serve.server import Server
from policies import SPEC, small_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(small_policy(), tmp_path_factory.mktemp("serve") / "policy")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plait: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--port 70000", "port: 70000 is not between 0 and 65535"),
        ("--port x", "--port: 'x' is not a whole number"),
        ("--keys a", "--keys: 'a' is not of the form KEY=CAMERA"),
        ("--keys a=top", "keys: no camera 'top'; the policy has ['front', 'wrist']"),
        ("--keys a=front b=front", "keys: 'a' and 'b' name the same camera, 'front'; give one key for each"),
        (f"--certificate {__file__} --private-key {__file__}", "they are no pair that TLS can use; give the"),
        ("--certificate a.pem", "certificate and private_key: TLS needs both"),
        ("--certificate /no.pem --private-key /no.pem --port 0", "no such certificate or key: /no.pem"),
        ("--device gpu", "no device 'gpu'"),
        ("--safety /no.json", "/no.json"),
        (f"--safety {__file__}", "test_serve.py: not valid JSON (Extra data: line 1 column 3 (char 2))\n"),
        ("--api-key=", "--api-key: the key is empty; leave it out"),
        ("--host no.such.host.invalid --port 0", "host 'no.such.host.invalid', port 0: "),
    ],
)
def test_what_cannot_be_is_told(
    folder: Path, arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, str(folder), *arguments.split())


def test_a_port_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "address already in use" in refused(capsys, str(folder), "--port", port)


def test_settings_of_the_envelope(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "safety.json"
    file.write_text(json.dumps({"hold_aftr": 2}))
    assert "Did you mean 'hold_after'?" in refused(capsys, str(folder), "--safety", str(file))
    file.write_text(json.dumps({"limits": {"low": [0.0]}}))
    assert "limits: 1 limits for 7 entries" in refused(capsys, str(folder), "--safety", str(file))


def test_a_policy_that_does_not_say_what_standing_still_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = small_policy(spec=replace(SPEC, action_kind=None))
    assert "action_kind" in refused(capsys, str(checkpoint.save(policy, tmp_path / "policy")))
    assert "checkpoint /nowhere: does not exist" in refused(capsys, "/nowhere")


@pytest.mark.parametrize(("key", "sentence"), [("", "is empty"), (" ", "is empty"), ("abc ", "has blanks at its ends")])
def test_a_key_that_nobody_could_send(
    folder: Path, key: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY, key)
    assert f"PLAIT_API_KEY: the key {sentence}" in refused(capsys, str(folder), "--port", "0")


@pytest.mark.parametrize(
    ("host", "listens", "reached"),
    [("::1", "[::1]", "[::1]"), ("::", "[::]", "[::1]"), ("0.0.0.0", "0.0.0.0", "127.0.0.1"), ("lab", "lab", "lab")],
)
def test_the_greeting_says_an_address_that_can_be_reached(host: str, listens: str, reached: str) -> None:
    config = SimpleNamespace(host=host, certificate=None, api_key="a")
    policy = SimpleNamespace(device=torch.device("cpu"), config=SimpleNamespace(execute=4), horizon=8, spec=SPEC)
    keys = {"plain": {"cameras": {}, "state": []}}
    told = greeting(cast(Server, SimpleNamespace(config=config, policy=policy, port=80, metadata={"keys": keys})))
    assert f"serving at ws://{listens}:80 on cpu; health: http://{reached}:80/healthz" in told
    assert f'Client("{reached}", 80, api_key="...")' in told
