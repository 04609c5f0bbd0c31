"""Versions of what results depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

import plait


def simulation_versions() -> dict[str, str]:
    """Of plait, Python and the packages that simulate; none of them is loaded."""
    found = {"plait": plait.__version__, "python": platform.python_version()}
    for package in ("mujoco", "gymnasium", "numpy", "metaworld"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a foreign environment may do without
            continue
    return found
