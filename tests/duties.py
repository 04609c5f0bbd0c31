"""What the worker processes of test_processes.py do; a module of its own, so that they load nothing else."""

import json
import os
import sys
import time

from plait.processes import Channel


def echo(channel: Channel) -> None:
    while True:
        channel.send(channel.receive())


def describe(channel: Channel) -> None:
    names = ("OMP_NUM_THREADS", "LP_NUM_THREADS")
    channel.send(json.dumps({"threads": [os.environ[n] for n in names], "modules": sorted(sys.modules)}).encode())


def fail(channel: Channel) -> None:
    raise {"ValueError": ValueError, "OSError": FileNotFoundError, "other": ZeroDivisionError}[
        channel.receive().decode()
    ]("in vain")


def die(channel: Channel) -> None:
    print("first line\nthe last line")
    print("a warning", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(7)


def sleep(channel: Channel) -> None:
    channel.send(b"")
    time.sleep(60)


def import_named(channel: Channel) -> None:
    __import__(channel.receive().decode())
    channel.send(json.dumps(sorted(sys.modules)).encode())
