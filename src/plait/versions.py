"""Versions of what results depend on."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import plait

CHECKOUT = Path(__file__).parents[2]  # where there is one


def simulation_versions() -> dict[str, str]:
    """Of plait, Python and the packages that simulate; none of them is loaded.

    Where plait runs from a checkout, ``commit`` is its git commit, with ``-dirty`` behind it when tracked files differ.
    """
    found = {"plait": plait.__version__, "python": platform.python_version()}
    if commit := _commit(CHECKOUT):
        found["commit"] = commit
    for package in ("mujoco", "gymnasium", "numpy", "metaworld"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a foreign environment may do without
            continue
    return found


@cache
def _commit(checkout: Path) -> str:
    """Empty where that is none, or where git does not say."""
    if not (checkout / ".git").exists():  # git would look further up, and find the repository of an environment's owner
        return ""
    describe = ("git", "--no-optional-locks", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty")
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's are another's
    try:
        said = subprocess.run(describe, cwd=checkout, env=own, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""
