"""``plait eval``: what it tells when it is interrupted, and of words that the policy does not know."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plait import checkpoint
from plait.cli import main
from plait.cli.evaluate import unknown_words_line
from plait.files import locked
from plait.policy import Policy
from policies import small_policy
from reach_env import ID, REACH

UNKNOWN = "words that training never saw, in the instructions of 100 % of the episodes: go, left, right\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.save(small_policy(spec=REACH, image_size=16), tmp_path_factory.mktemp("run") / "c")


def command(trained: Path, out: Path, *more: str) -> list[str]:
    return ["eval", str(trained), "--env", ID, "--episodes", "4", "--workers", "1", "--out", str(out), *more]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_words_that_the_policy_does_not_know_are_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(trained, tmp_path)) == 0
    assert capsys.readouterr().err == UNKNOWN


def test_only_some_of_many_unknown_words_are_named() -> None:
    words = [f"w{i}" for i in range(10)]
    assert unknown_words_line(words, 2.5).endswith(
        "of 2.5 % of the episodes: w0, w1, w2, w3, w4, w5, w6, w7 and 2 more"
    )


def test_an_interruption_while_filming_tells_that_the_report_is_complete(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plait.evaluate.rollout.film", interrupted)
    assert main(command(trained, tmp_path, "--videos", "2")) == 130
    shown, told = capsys.readouterr()
    assert "all episodes   success" in shown and f"details: {tmp_path}/eval.json" in shown
    last = "plait: interrupted while filming; the report is complete, films are missing (2 of 2)\n"
    assert told == UNKNOWN + last
    assert json.loads((tmp_path / "eval.json").read_text())["partial"] is False


def test_an_interruption_before_any_episode_is_finished_is_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Policy, "predict", interrupted)
    assert main(command(trained, tmp_path)) == 130
    told = "plait: interrupted before any episode was finished; no report was written\n"
    assert capsys.readouterr() == ("", told)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_and_impossible_numbers_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path):
        assert main(command(trained, tmp_path)) == 2
    assert "another process is writing here" in capsys.readouterr().err
    assert main(command(trained, tmp_path, "--videos", "-1")) == 2
    assert capsys.readouterr().err == "plait: videos: -1 is too small; at least 0\n"
    assert main(["eval", str(trained), "--env", ID, "--workers", "0"]) == 2
    assert capsys.readouterr().err == "plait: workers: 0 is too small; at least 1\n"


def test_a_report_of_another_policy_is_not_replaced(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = checkpoint.save(small_policy(seed=1, spec=REACH, image_size=16), tmp_path / "other")
    assert main(command(other, tmp_path / "out")) == 0
    before = (tmp_path / "out/eval.json").read_bytes()
    capsys.readouterr()
    assert main(command(trained, tmp_path / "out")) == 2
    shown, told = capsys.readouterr()
    assert shown == "" and told.startswith(
        f"plait: {tmp_path}/out/eval.json was made with other settings: checkpoint ("
    )
    assert told.endswith("; say --out another folder\n")
    assert (tmp_path / "out/eval.json").read_bytes() == before
    assert main(command(other, tmp_path / "out")) == 0, "the same policy replaces its own report"
    (tmp_path / "out/eval.json").rename(tmp_path / "out/failures.json")
    assert main([*command(trained, tmp_path / "out"), "--failures"]) == 2


def test_an_own_folder_takes_the_report_of_a_policy_that_was_trained_on(tmp_path: Path) -> None:
    for seed in (0, 1):  # the same run, its newest checkpoint another one
        checkpoint.save(small_policy(seed=seed, spec=REACH, image_size=16), tmp_path / f"checkpoints/{seed:06d}")
        assert main(["eval", str(tmp_path), "--env", ID, "--episodes", "1", "--workers", "1"]) == 0
    (report,) = tmp_path.glob("eval/*/eval.json")
    assert json.loads(report.read_text())["protocol"]["checkpoint"] == checkpoint.fingerprint(tmp_path)


@pytest.mark.parametrize(
    "option",
    [
        "--episodes 9",
        "--instructions absent",
        "--blank top",
        "--execute 1",
        "--ensemble 0.1",
        "--seed 3",
        "--workers 1",
    ],
)
def test_options_without_effect_on_a_dataset_are_refused(
    trained: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(trained), "--dataset", "d", *option.split()]) == 2
    reason = f"eval: --dataset predicts what is recorded, in no environment; leave out {option.split()[0]}."
    assert capsys.readouterr().err == f"plait: {reason}\n"


def test_pictures_of_another_shape_than_in_training_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = replace(REACH, cameras={"top": (48, 64)})
    policy = checkpoint.save(small_policy(spec=wide, image_size=16), tmp_path / "c")
    assert main(command(policy, tmp_path / "out")) == 0
    sentence = (
        "camera 'top': pictures of 16 x 16 (height x width) have another shape than those of the training, 48 x 64"
    )
    assert sentence in capsys.readouterr().err
    (told,) = json.loads((tmp_path / "out/eval.json").read_text())["protocol"]["squeezed"]
    assert told.startswith(sentence)
