"""Policies on a socket, and in a control loop. Importing this loads nothing; ``client`` and ``codec`` load no torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plait.serve.client import Client as Client
    from plait.serve.loop import ControlLoop as ControlLoop
    from plait.serve.server import Server as Server

_PUBLIC = {"Client": "plait.serve.client", "ControlLoop": "plait.serve.loop", "Server": "plait.serve.server"}
__all__ = [*_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'plait.serve' has no attribute {name!r}; it has {sorted(_PUBLIC)}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
