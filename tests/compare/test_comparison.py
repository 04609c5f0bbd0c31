"""A comparison, very small: interrupted, continued with two jobs, and added to."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from plait.cli import main
from plait.compare import comparison
from plait.compare.bench import Bench
from plait.compare.cell import Setup
from plait.compare.comparison import compare
from plait.diagnose import cost
from plait.fusion import FilmConfig

SETUP = Setup("tabletop", {"size": 32}, steps=3, batch_size=8, episodes=2)
GRID = {"seeds": 1, "contrasts": (), "workers": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interrupted in the second of three cells, then continued by two processes."""
    folder, run, seen = tmp_path_factory.mktemp("compare") / "here", Bench.run, []

    def interrupted(bench, cell):
        seen.append(cell.name)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return run(bench, cell)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "FEWEST", 2), patch.setattr(cost, "SECONDS", 0.0)
        patch.setattr(Bench, "run", interrupted)
        with pytest.raises(KeyboardInterrupt, match="1 of 3 cells are finished and the same command continues"):
            compare(SETUP, folder, ["film", "early"], [9], **{**GRID, "contrasts": ("words_only",)})
        patch.setattr(Bench, "run", lambda *_: pytest.fail("the other cells belong to other processes"))
        before = (folder / "cells/film-9-seed0.json").stat().st_mtime_ns
        compare(SETUP, folder, ["film", "early"], [9], **{**GRID, "contrasts": ("words_only",)}, jobs=2)
        assert (folder / "cells/film-9-seed0.json").stat().st_mtime_ns == before
    assert seen == ["film-9-seed0", "early-9-seed0"]
    return folder


def test_the_results_tell_everything(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert sorted(line["fusion"] + line["contrast"] for line in results["lines"]) == ["early", "film", "filmwords_only"]
    assert results["cells"].keys() == {"film-9-seed0", "early-9-seed0", "film-9-seed0-words_only"}
    for line in results["lines"]:
        assert line["trials"].keys() == {"seen", "unseen", "following"}
        assert all(share["n"] == 2 and share["ci95"][1] > 50 for share in line["trials"].values())
        assert abs(line["off"]) < 0.1
    assert results["cells"]["early-9-seed0"]["protocol"]["env_args"]["size"] == 32
    text = (finished / "results.md").read_text()
    assert "| early | 9 |" in text and "| words only | 9 |" in text and "±" not in text
    assert (finished / "results.png").read_bytes()[1:4] == b"PNG"


def test_all_cells_met_the_same_scenes_and_the_dataset_was_recorded_once(finished: Path) -> None:
    cells = [json.loads(path.read_text()) for path in (finished / "cells").iterdir()]
    assert len({json.dumps(cell["protocol"]["episode_seeds"]) for cell in cells}) == 1
    recorded = [json.loads((run / "run.json").read_text())["dataset"] for run in (finished / "runs").iterdir()]
    assert recorded[0] == recorded[1] == recorded[2]


def test_a_finished_comparison_does_nothing_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "run", lambda *_: pytest.fail("all is done"))
    monkeypatch.setattr(Bench, "cost", lambda *_: pytest.fail("all is measured"))
    assert len(compare(SETUP, finished, ["early"], [9], **GRID)) == 3  # those of earlier calls are in the table too


@pytest.mark.parametrize("fusions", [["film"], ["late"]])  # whose cell is there, and whose is not
def test_other_settings_need_another_folder(
    finished: Path, monkeypatch: pytest.MonkeyPatch, fusions: list[str]
) -> None:
    monkeypatch.setattr(comparison, "record", lambda *_: pytest.fail("minutes of recording"))
    other = replace(SETUP, steps=4)
    with pytest.raises(ValueError, match=r"-9-seed0.*\.json was made with other settings: steps \(3 then, 4 now\)"):
        compare(other, finished, fusions, [12], **GRID)


def test_cells_of_a_fusion_with_other_defaults_are_not_pooled(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wider(self: FilmConfig) -> None:
        object.__setattr__(self, "depth", 7)

    monkeypatch.setattr(FilmConfig, "__post_init__", wider)
    with pytest.raises(ValueError, match=r"other settings: made_with\.policy\.fusion\.depth \(\d+ then, 7 now\)"):
        compare(SETUP, finished, ["film"], [9], **GRID)


def test_demonstrations_that_do_not_suffice_are_told_before_more_are_recorded(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(comparison, "record", lambda env, out, episodes, *_: asked.append(episodes))
    shutil.copytree(finished / "dataset", tmp_path / "dataset")
    sentence = r"batch-size 999: 9 demonstrations have \d+ frames .* say --batch-size \d+ or less"
    with pytest.raises(ValueError, match=sentence):
        compare(replace(SETUP, batch_size=999), tmp_path, ["film"], [4000, 9], **GRID)
    assert asked == [9]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty and holds no comparison"):
        compare(SETUP, tmp_path, ["film"], [9])


def test_cells_carried_to_an_empty_folder_are_not_done_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "cells", tmp_path / "cells")
    monkeypatch.setattr(Bench, "run", lambda *_: pytest.fail("all is done"))
    assert compare(SETUP, tmp_path, ["early"], [9], **GRID)


def test_the_keyframe_head_can_be_left_out(tmp_path: Path) -> None:
    kept, left_out = (Bench(tmp_path, Setup("tabletop", keyframe=keyframe)).recipe.policy for keyframe in (True, False))
    assert kept.keyframe is not None and left_out == replace(kept, keyframe=None)


def test_each_fusion_gets_the_rate_that_validates_best(finished: Path) -> None:
    setup = replace(SETUP, rates=(1e-5, 2e-3), learning_rates={"film": 5e-3, "early": 5e-3})
    lines = compare(setup, finished, ["late"], [9], **GRID)
    tried = {path.name: json.loads(path.read_text()) for path in (finished / "cells").glob("late-9-seed0-rate*")}
    assert {found["settings"]["rate"] for found in tried.values()} == {1e-5, 2e-3}
    best = min(tried.values(), key=lambda found: found["validation"]["validation/action"])
    assert {line.rate for line in lines if line.fusion == "late"} == {best["settings"]["rate"]}
    assert len(list((finished / "runs").glob("late-9-*"))) == 2  # the better one is the comparison's
    again = compare(setup, finished, ["late"], [9], **GRID)  # the cells that are done have that rate, not the recipe's
    assert {line.rate for line in again if line.fusion == "late"} == {best["settings"]["rate"]}


def test_a_loss_that_explodes_is_a_result(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise FloatingPointError("the loss is nan at step 2")

    monkeypatch.setattr("plait.compare.bench.train", explode)
    monkeypatch.setattr(comparison, "draw", lambda *_: None)
    (line,) = (line for line in compare(SETUP, finished, ["early"], [8], **GRID) if line.demonstrations == 8)
    assert line.diverged == 1 and line.seeds == [0.0] and str(line.trials["seen"]) == "0 [0, 66]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--env ENV and --out DIR are needed"),
        (["--cost", "--env", "tabletop"], "leave out --env"),
        (["--cost", "--fusion", "flim"], "Did you mean 'film'?"),
        (["--env", "tabletop", "--out", "x", "--mispaired", "120"], "shares are percent, 0 to 100"),
        (["--env", "tabletop", "--out", "x", "--recipe", "tabletop-pikc"], "Did you mean 'tabletop-pick'?"),
        (["--env", "tabletop", "--out", "x", "--learning-rate", "flim=1"], "Did you mean 'film'?"),
        (["--env", "tabletop", "--out", "x", "--workers", "0"], "workers: 0 is too small; at least 1"),
        (["--env", "tabletop", "--out", "x", "--jobs", "0"], "jobs: 0 is too small; at least 1"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_cell_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "film-9-seed0.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"film-9-seed0\.json: no finished cell of a comparison \(a part is missing\); delete it"
    ):
        Bench(tmp_path, SETUP).known()


def test_a_device_that_is_not_there_is_told_before_anything_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device 'cuda:77' cannot be used here"):
        compare(SETUP, tmp_path / "new", ["late"], [9], **GRID | {"device": "cuda:77"})
    assert not (tmp_path / "new").exists()
