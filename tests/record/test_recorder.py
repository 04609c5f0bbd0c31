import errno
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from plait import envs
from plait.data import layout
from plait.data.lerobot import Dataset
from plait.diagnose.doctor.examine import examine
from plait.files import locked
from plait.record.demonstration import DemonstrationConfig, demonstrate
from plait.record.recorder import record
from plait.record.worker import scene_seed

ENV = "expert_env:Count-v0"
EPISODES = 48  # long enough to be met at work


@pytest.fixture(autouse=True)
def workers_find_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_scene_has_one_demonstration_and_its_seed_and_failures_are_kept(tmp_path: Path):
    result = record(ENV, tmp_path / "d", 4, workers=1, seed=3)
    dataset = Dataset.open(tmp_path / "d")
    failed = [next(k for k in range(50) if scene_seed(3, scene, k) % 2 == 0) for scene in range(4)]
    seeds = [scene_seed(3, scene, attempt) for scene, attempt in enumerate(failed)]
    expected = [{"episode_index": i, "scene": i, "seed": seeds[i], "failed": failed[i]} for i in range(4)]
    assert dataset.extras() == expected
    assert dataset.state is not None and dataset.state[::5, 0].tolist() == [row["seed"] % 100 for row in expected]
    assert (result.episodes, result.frames, result.failed) == (4, 20, sum(failed)) and result.failed > 0
    assert dataset.provenance()["arguments"] == {
        "env": ENV, "env_args": {}, "seed": 3, "pushes": 0.0, "slips": 0.0, "longest": None, "tries": 1, "dwell": 0,
        "images": "auto",
    }  # fmt: skip
    assert dataset.provenance()["versions"]["mujoco"] and len(list((tmp_path / "d/data").rglob("*.parquet"))) == 1


def test_seeds_of_recordings_lie_below_those_of_evaluations():
    seeds = {scene_seed(seed, scene, k) for seed in range(3) for scene in range(500) for k in range(2)}
    assert len(seeds) == 3000 and max(seeds) < 2**30
    assert scene_seed(0, 0) == 821328062  # of the first episode, for ever


def test_the_dataset_does_not_depend_on_workers_nor_on_their_death(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    die = tmp_path / "die"
    record(ENV, tmp_path / "one", 6, {"die": str(die)}, workers=1)
    die.touch()
    record(ENV, tmp_path / "two", 6, {"die": str(die)}, workers=2)
    told = capsys.readouterr().err
    assert "ended with status 7; its episode is recorded again" in told and "worker" in told
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_same_call_extends_and_others_are_refused(tmp_path: Path):
    record(ENV, tmp_path / "d", 3, workers=1)
    record(ENV, tmp_path / "d", 5, workers=1)
    record(ENV, tmp_path / "at once", 5, workers=1)
    assert "5 episodes (4 were asked for), 25 frames" in str(record(ENV, tmp_path / "d", 4, workers=1))
    assert contents(tmp_path / "d") == contents(tmp_path / "at once")
    expected = (
        r"made with other settings: pushes .*seed \(0 then, 1 now\), env_args\.fault \(None then, 'broken' now\); say"
    )
    with pytest.raises(ValueError, match=expected):
        record(ENV, tmp_path / "d", 5, {"fault": "broken"}, seed=1, how=DemonstrationConfig(pushes=0.5))


def test_a_second_recording_into_the_same_folder_is_refused(tmp_path: Path):
    with locked(tmp_path / "d"), pytest.raises(ValueError, match="d: another process is writing here"):
        record(ENV, tmp_path / "d", 3, workers=1)
    assert list((tmp_path / "d").iterdir()) == []


def test_a_full_disk_is_told_with_what_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, content: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            OSError, match=r"d/meta/plait\.json: the disk is full; no episode is finished yet\. Free some"
        ):
            record(ENV, tmp_path / "d", 2, workers=1)
    assert record(ENV, tmp_path / "d", 2, workers=1).episodes == 2


@pytest.mark.parametrize("pushes", [-0.1, float("nan"), float("inf")])
def test_pushes_that_are_no_strength_are_refused(pushes: float):
    with pytest.raises(ValueError, match=f"record.pushes: {pushes} is (too small|not finite); at least 0"):
        DemonstrationConfig(pushes=pushes)


def test_a_recording_without_an_episode_binds_nobody(tmp_path: Path):
    with pytest.raises(ValueError, match="failed in 50 attempts at scene 0"):
        record(ENV, tmp_path / "d", 2, {"fault": "hopeless"}, workers=1)
    (tmp_path / "d/data/chunk-000").mkdir(parents=True)
    (tmp_path / "d/data/chunk-000/file-007.parquet").touch()  # a kill in the middle of an episode
    record(ENV, tmp_path / "d", 2, workers=1)
    record(ENV, tmp_path / "new", 2, workers=1)
    assert contents(tmp_path / "d") == contents(tmp_path / "new")


@pytest.mark.parametrize(
    ("env", "env_args", "error", "message"),
    [
        ("tabeltop", {}, ValueError, "no environment 'tabeltop'.*Did you mean 'tabletop'"),
        ("CartPole-v1", {}, ValueError, "CartPole-v1: has no scripted expert"),
        (ENV, {"fault": "stubborn"}, RuntimeError, r"scene 0, .* ended 1 workers: worker 0 .* ended with status 7"),
        (ENV, {"fault": "broken"}, RuntimeError, "ArithmeticError: the spring is loose"),
        (ENV, {"fault": "hopeless"}, ValueError, "the expert failed in 50 attempts at scene 0; weaker pushes"),
    ],
)
def test_what_cannot_work_is_told(
    tmp_path: Path, env: str, env_args: dict, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("plait.record.team._DEATHS", 1)
    with pytest.raises(error, match=message):
        record(env, tmp_path / "d", 2, env_args, workers=1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise", r"^worker [01]: scene 1, seed {}: ArithmeticError: the spring is loose"),
        ("kill", r"^scene 1, seed {} at first, ended 3 workers: worker [01] \(process \d+\) ended with status 7"),
    ],
)
def test_a_scene_that_goes_wrong_is_named_and_takes_no_finished_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    out, marks = tmp_path / "d", tmp_path / "marks"
    marks.mkdir()
    (marks / "fault").write_text(fault)
    arguments: dict[str, Any] = {"env_args": {"folder": str(marks)}, "workers": 2}
    for episodes in (8, 9):
        with pytest.raises(RuntimeError, match=told.format(scene_seed(0, 1))) as error:
            record("broken_scene_env:Broken-v0", out, episodes, **arguments)
        kept = [row["scene"] for row in Dataset.open(out).extras()]
        assert {0, 2, 3, 4} <= set(kept) and 1 not in kept and kept == sorted(kept)
        assert f"; {len(kept)} of {episodes} episodes are safe and the same command continues" in str(error.value)
    (marks / "fault").unlink()
    record("broken_scene_env:Broken-v0", out, 9, **arguments)
    dataset, rest = Dataset.open(out), [scene for scene in range(9) if scene not in kept]
    assert [row["scene"] for row in dataset.extras()] == kept + rest and dataset.verify() == []
    assert dataset.state is not None
    assert dataset.state[::5, 0].tolist() == [row["seed"] % 100 for row in dataset.extras()]


# ----------------------------------------------------------------------------- real simulation, real processes, killed


def start(out: Path) -> subprocess.Popen[str]:
    command = f"from plait.record.recorder import record; record('tabletop', {str(out)!r}, {EPISODES}, workers=1)"
    return subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, text=True)


def finished(out: Path) -> int:
    return json.loads((out / layout.INFO).read_text())["total_episodes"] if (out / layout.INFO).exists() else 0


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.002)


def children(process: subprocess.Popen[str]) -> list[int]:
    told = subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.PIPE, text=True)  # fails where none is
    return list(map(int, told.stdout.split()))


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text()


def test_killed_and_interrupted_recordings_continue_to_the_same_dataset(tmp_path: Path):
    chance, out, workers = random.Random(0), tmp_path / "d", []
    for moment, signal_number in ((2, signal.SIGKILL), (5, signal.SIGINT), (8, signal.SIGKILL)):
        process = start(out)
        further = max(moment, finished(out) + 1)  # a slow machine may have met the moment before
        wait_until(lambda further=further: finished(out) >= further, process)
        workers += children(process)
        time.sleep(chance.random() / 50)
        process.send_signal(signal_number)
        _, told = process.communicate(timeout=60)
        assert process.returncode == -signal_number
        if signal_number == signal.SIGINT:
            assert f"of {EPISODES} episodes are safe and the same command continues" in told
        dataset = Dataset.open(out)
        assert EPISODES > len(dataset.episodes) == finished(out) >= moment and dataset.verify() == []
    record("tabletop", out, EPISODES, workers=2)
    record("tabletop", tmp_path / "undisturbed", EPISODES, workers=1)
    assert contents(out) == contents(tmp_path / "undisturbed") and not list(out.rglob("*.tmp"))
    assert len(workers) == 3 and not any(map(alive, workers)), "workers must end with their recording"


def test_of_several_tries_in_a_scene_the_first_is_recorded_in_which_the_expert_does_not_dither(tmp_path: Path) -> None:
    pytest.importorskip("metaworld")
    how = DemonstrationConfig(pushes=1.0, longest=300, tries=3)
    scenes = {"task": "disassemble", "size": 32}  # its expert takes 60 to 300 steps, as chance will have it
    record("metaworld", tmp_path / "d", 2, scenes, workers=1, seed=7, how=how)
    dataset, env = Dataset.open(tmp_path / "d"), envs.make("metaworld", task="disassemble", cameras=()).unwrapped
    steps = [
        [len(episode.action) if (episode := demonstrate(env, told["seed"], scene, how, attempt)) else None
         for attempt in range(3)]
        for scene, told in enumerate(dataset.extras())
    ]  # fmt: skip
    assert steps == [[None, 230, 100], [None, 115, 80]]  # 100 is less than half of 230; 80 of 115 is not
    assert [(told["attempt"], row.length) for told, row in zip(dataset.extras(), dataset.episodes, strict=True)] == [
        (2, 100),
        (1, 115),
    ]
    assert [told["seed"] for told in dataset.extras()] == [scene_seed(7, scene, 0) for scene in range(2)]


@pytest.mark.parametrize("scenes", [("metaworld", {"task": "reach", "size": 32}), ("tabletop", {"size": 32})], ids=str)
def test_a_demonstration_that_dwells_goes_on_after_success(tmp_path: Path, scenes: tuple[str, dict[str, Any]]) -> None:
    """Up to success it is the same one; what follows shows how to stay there."""
    name, env_args = scenes
    if name == "metaworld":
        pytest.importorskip("metaworld")
    record(name, tmp_path / "d", 2, env_args, workers=1, how=DemonstrationConfig(pushes=0.5, dwell=30))
    record(name, tmp_path / "short", 2, env_args, workers=1, how=DemonstrationConfig(pushes=0.5))
    long, short = Dataset.open(tmp_path / "d"), Dataset.open(tmp_path / "short")
    for one, other in zip(long.episodes, short.episodes, strict=True):
        assert one.length == other.length + 30
        mine, theirs = (data.action[row.start :][: other.length] for data, row in ((long, one), (short, other)))
        torch.testing.assert_close(mine, theirs)
    assert not [finding for finding in examine(long).findings if finding.severity == "error"]


def test_a_recording_in_which_the_longest_counted_the_dwelling_is_not_continued(tmp_path: Path) -> None:
    how = DemonstrationConfig(dwell=2, longest=60)
    record("tabletop", tmp_path / "d", 1, {"size": 32}, workers=1, how=how)
    file = tmp_path / "d" / layout.PLAIT
    told = json.loads(file.read_text())
    del told["provenance"]["arguments"]["slips"]
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="d: recorded when --longest counted the steps of --dwell too"):
        record("tabletop", tmp_path / "d", 2, {"size": 32}, workers=1, how=how)


def test_a_robot_without_a_gripper_is_refused_before_anything_is_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"slips: 0\.1, but this robot has no gripper that could slip"):
        record(ENV, tmp_path / "d", 1, {"fault": "handless"}, workers=1, how=DemonstrationConfig(slips=0.1))
    assert not (tmp_path / "d").exists() or not list((tmp_path / "d").iterdir())


def test_tries_that_would_all_be_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match=r"record\.tries: 3; they differ by pushes or slips"):
        DemonstrationConfig(tries=3)
