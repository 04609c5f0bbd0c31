"""What every test shares: one torch thread, one seed, and the shapes written in annotations are checked."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # no display is needed

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)
jaxtyping.install_import_hook("plait", "typechecker.check")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws, and what its fixtures draw, depends neither on the tests before it nor on their order."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that runs longest comes first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_contract.py")
