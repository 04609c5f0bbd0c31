"""Policies that were really trained, each with a fault in its demonstrations, and where they are examined."""

import pytest

from plait.diagnose.subject import Subject
from sides_env import ID
from sides_policy import trained

CAMERAS = ["front", "wrist"]


@pytest.fixture(scope="session")
def sound() -> Subject:
    """Its demonstrations had no fault."""
    return Subject(trained(CAMERAS), ID, {"cameras": CAMERAS}, episodes=10, workers=1)


@pytest.fixture(scope="session")
def false_wrist() -> Subject:
    """The wrist camera gave away where to go, whenever the front camera showed nothing."""
    return Subject(trained(CAMERAS, lie="wrist"), ID, {"cameras": CAMERAS}, episodes=20, workers=1)


@pytest.fixture(scope="session")
def black_wrist() -> Subject:
    """In all demonstrations the wrist camera was black; all else is as it should be."""
    return Subject(trained(CAMERAS, black=["wrist"]), ID, {"cameras": CAMERAS}, episodes=20, workers=1)


@pytest.fixture(scope="session")
def shuffled() -> Subject:
    """Every demonstration had the words of another one."""
    return Subject(trained(lie="words"), ID, {}, episodes=20, workers=1)


@pytest.fixture(scope="session")
def state_only() -> Subject:
    """Only the state said what to do: the camera was black, and the words were those of another demonstration."""
    return Subject(trained(lie="words", black=["front"]), ID, {}, episodes=20, workers=1)
