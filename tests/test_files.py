import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from plait.files import is_locked, json_text, locked, room, write_whole

HOLD = "import sys, time; from pathlib import Path; from plait.files import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print(flush=True); time.sleep(60)"


def test_a_locked_folder_is_refused_until_it_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    with (
        locked(folder),
        pytest.raises(ValueError, match=r"a/b: another process is writing here; .* say --out another folder"),
        locked(folder),
    ):
        pass
    with locked(folder):
        assert list(folder.iterdir()) == [], "the lock is no file"
        assert is_locked(folder)
    assert not is_locked(folder)


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b.json"), "a/b.json"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "a"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "a"),
    ],
)
def test_a_full_disk_is_told_with_what_is_safe(error: Exception, place: str) -> None:
    with pytest.raises(OSError) as told, room(Path("a"), lambda: "two are safe"):
        raise error
    expected = f"{place}: the disk is full; two are safe. Free some space and run the same command again"
    assert str(told.value) == expected


def test_other_errors_pass() -> None:
    with pytest.raises(PermissionError), room(Path("a"), lambda: ""):
        raise PermissionError(errno.EACCES, "Permission denied", "a")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")  # writing tells no name

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device") as told:
        write_whole(tmp_path / "a", "content")
    assert told.value.filename == str(tmp_path / "a") and list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    with pytest.raises(ValueError, match="another process"), locked(tmp_path):
        pass
    process.kill()
    process.communicate(timeout=10)
    with locked(tmp_path):
        pass


def test_numbers_that_json_does_not_know_become_null() -> None:
    text = json_text({"ratio": float("inf"), "rows": [(1, float("nan")), "∞"], 3: -2.5})
    assert "Infinity" not in text and "NaN" not in text
    assert json.loads(text) == {"ratio": None, "rows": [[1, None], "∞"], "3": -2.5}
