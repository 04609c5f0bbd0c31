"""The commit among the versions: of a checkout, with a mark where tracked files differ, and never an error."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plait import versions

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    versions._commit.cache_clear()
    yield
    versions._commit.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("git") is None:
        pytest.skip("no git")
    monkeypatch.setattr(versions, "CHECKOUT", tmp_path)
    git(tmp_path, "init")
    (tmp_path / "tracked").write_text("as it was")
    git(tmp_path, "add", "tracked")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "v1")  # the commit is told, not the tag
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *NOBODY, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit_now() -> str | None:
    versions._commit.cache_clear()
    return versions.simulation_versions().get("commit")


def test_the_commit_of_a_checkout_and_whether_tracked_files_differ(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "untracked").write_text("a result")
    assert commit_now() == head
    (checkout / "tracked").write_text("as it is")
    assert commit_now() == f"{head}-dirty"


def test_git_is_asked_once(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = versions.simulation_versions()
    monkeypatch.setattr(subprocess, "run", None)
    assert versions.simulation_versions() == first and "commit" in first


def test_the_repository_that_a_hook_names_is_not_asked(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, other = git(checkout, "rev-parse", "HEAD"), tmp_path_factory.mktemp("other")
    git(other, "init")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit_now() == head


def test_without_a_checkout_without_git_and_without_a_commit_there_is_no_entry(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed := checkout / "environment").mkdir()  # within somebody's repository
    monkeypatch.setattr(versions, "CHECKOUT", installed)
    assert commit_now() is None
    git(installed, "init")  # nothing committed
    assert commit_now() is None
    monkeypatch.setattr(versions, "CHECKOUT", checkout)
    monkeypatch.setenv("PATH", str(installed))
    assert commit_now() is None
