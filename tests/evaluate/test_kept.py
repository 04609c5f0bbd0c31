"""What is kept of an evaluation goes on in another commit of plait, and in no other version."""

from pathlib import Path

import pytest

from plait.evaluate.kept import Kept


def interrupted(path: Path, versions: dict[str, str]) -> None:
    with pytest.raises(KeyboardInterrupt), Kept(path, {"versions": versions}) as kept:
        kept.add({"episode": 0})
        raise KeyboardInterrupt


@pytest.mark.parametrize("commit", [{}, {"commit": "a-dirty"}, {"commit": "b"}], ids=str)
def test_another_commit_goes_on(tmp_path: Path, commit: dict[str, str]) -> None:
    interrupted(tmp_path / "rows", {"plait": "0.1.0", "commit": "a"})
    assert Kept(tmp_path / "rows", {"versions": {"plait": "0.1.0", **commit}}).rows == [{"episode": 0}]


def test_another_version_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "rows", {"plait": "0.1.0", "commit": "a"})
    with pytest.raises(ValueError, match=r"versions\.plait \('0\.1\.0' then, '0\.2\.0' now\); delete it"):
        Kept(tmp_path / "rows", {"versions": {"plait": "0.2.0", "commit": "a"}})
