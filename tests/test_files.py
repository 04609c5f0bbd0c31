import subprocess
import sys
from pathlib import Path

import pytest

from plait.files import locked

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


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    with pytest.raises(ValueError, match="another process"), locked(tmp_path):
        pass
    process.kill()
    process.communicate(timeout=10)
    with locked(tmp_path):
        pass
