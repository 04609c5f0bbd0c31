"""Plait: vision-language-action policies, with the fusion of the modalities as a swappable, measurable choice.

import plait
policy = plait.load("runs/quickstart")
action = policy.act({"front": image, "wrist": image}, "pick up the red ball", state)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from plait.checkpoint import load as load

_PUBLIC = {"load": "plait.checkpoint"}
__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Resolve public names on first use, so that importing one light part of plait does not load torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'plait' has no attribute {name!r}; it has {sorted(_PUBLIC)}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
