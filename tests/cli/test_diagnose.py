"""``plait diagnose`` on the tabletop: what it tells, what it leaves, and what it refuses."""

import json
from pathlib import Path

import pytest

from plait import checkpoint, envs
from plait.cli import main
from policies import small_policy

TABLETOP = envs.make("tabletop").unwrapped.embodiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an untrained policy."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(small_policy(spec=TABLETOP), folder / "checkpoints/00000001")
    return folder


def command(run: Path, out: Path, *more: str) -> list[str]:
    return ["diagnose", str(run), "--env", "tabletop", "--out", str(out), "--episodes", "2", "--workers", "1", *more]


def test_it_tells_each_verdict_and_where_the_page_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.diagnose.cost.MOST", 20)  # calls that are timed
    assert main(command(run, tmp_path, "--questions", "works", "costs")) == 0
    works, costs, where = capsys.readouterr().out.splitlines()
    assert works == (
        "Does it work?  It succeeds in 0 of 2 new scenes (95 % interval: 0 to 66 %). "
        "2 of 2 failures end before it touches anything."
    )
    assert costs.startswith("What does it cost?  It has ") and where == f"the page: {tmp_path}/report.html"
    told = json.loads((tmp_path / "diagnose.json").read_text())
    assert (told["settings"]["episodes"], list(told["answers"])) == (2, ["works", "costs"])
    assert told["answers"]["works"]["numbers"]["unseen_combinations"]["n_episodes"] == 2
    document = (tmp_path / "report.html").read_text("utf-8")
    assert document.count('<img src="data:image/webp;base64,') == 2

    assert main(command(run, tmp_path, "--questions", "works")) == 0, "what is answered is not asked again"
    assert (tmp_path / "report.html").read_text("utf-8") == document


def test_what_cannot_be_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(run, tmp_path, "--questions", "work")) == 2
    assert "no question 'work'; choose one of" in capsys.readouterr().err
    assert main(command(run, tmp_path, "--episodes", "1")) == 2
    assert capsys.readouterr().err == "plait: episodes: 1 is too small; at least 2\n"
    assert main(["diagnose", str(run), "--out", str(tmp_path)]) == 2
    assert "its training data was not recorded with plait; say --env ENV" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("question", ["costs", "embeddings"])
def test_a_policy_in_another_environment_is_refused_before_any_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    for other in (["--env-args", "cameras=front"], ["--env", "CartPole-v1"]):
        assert main([*command(run, tmp_path, "--questions", question), *other]) == 2
        assert capsys.readouterr().err.startswith("plait: this policy does not fit environment '")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("plait.policy.Policy.predict", interrupted)
    assert main(command(run, tmp_path)) == 130
    told = "plait: interrupted; what is answered stays in the report, and the same command goes on\n"
    assert capsys.readouterr().err == told
