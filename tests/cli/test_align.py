"""``plait align``: from pairs to a report and to encoders that ``plait train --init`` starts from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faults import rewrite
from plait.cli import main
from plait.cli.align import Align
from plait.data.lerobot import Dataset
from plait.data.png import encode_png
from plait.encoders.language import TextTransformerConfig
from plait.encoders.vision import TimmConfig
from plait.record.recorder import record
from plait.train.align import TRAIN

DATASET = Path(__file__).parents[1] / "fixtures/lerobot_v3_images"
SMALL = "--image-size 32 --stages 8 --embed-dim 8 --train.steps 2 --train.batch-size 8 --train.device cpu"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], command: str, code: int) -> str:
    capsys.readouterr()
    assert main(command.split()) == code
    return capsys.readouterr().err if code else capsys.readouterr().out


def test_scenes_a_report_and_a_policy_that_starts_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"align --env tabletop --scenes 40 --out aligned {SMALL}"
    assert main(command.split()) == 0
    shown = capsys.readouterr().out
    assert "held-out pictures (4, 16 texts; R@1 of guessing " in shown and "never seen together (4, 16 texts; " in shown
    assert "  place of one object among four " in shown and "plait train RECIPE --init aligned starts" in shown
    report = json.loads(Path("aligned/align.json").read_text())
    assert report["pairs"] == {"env": "tabletop", "env_args": {}, "scenes": 40}
    for part in ("held_out", "unseen"):
        assert report[part].keys() >= {"vision_to_text_r5", "text_to_vision_r10", "modality_gap", "pc_placed"}
    assert main(command.split()) == 0, "the same command on a finished run reports again"
    assert capsys.readouterr().out == shown

    train = f"train tabletop-pick --dataset {DATASET} --out policy --image-size 32 --train.steps 1 --train.batch-size 4"
    assert main(f"{train} --init aligned".split()) == 0
    assert "init: the encoders of cameras (" in capsys.readouterr().err
    assert main(f"{train} --init aligned --vision.width 64 --out other".split()) == 2
    assert "say --vision.width 40." in capsys.readouterr().err


def test_a_folder_of_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    Path("mine").mkdir()
    for number, picture in enumerate(pixels):
        Path(f"mine/{number}.png").write_bytes(encode_png(picture))
    lines = [f"{number}.png,thing {number % 7}" for number in range(30)]
    Path("mine/captions.csv").write_text("\n".join(["file,text", *lines]))
    assert main(f"align --pairs mine --out aligned --objective sigmoid {SMALL}".split()) == 0
    shown = capsys.readouterr().out
    assert "held-out pictures (3, 3 texts; " in shown and "never seen together" not in shown and "place of" not in shown
    Path("mine").rename("moved")
    assert main(f"align --pairs moved --out aligned --objective sigmoid {SMALL}".split()) == 0
    assert "alignment.objective ('sigmoid' then, 'infonce' now)" in told(
        capsys, f"align --pairs moved --out aligned {SMALL}", 2
    )
    Path("moved/3.png").write_bytes(encode_png(pixels[4]))
    error = told(capsys, f"align --pairs moved --out aligned --objective sigmoid {SMALL}", 2)
    assert "aligned was made with other settings: pairs.pictures ('" in error and "pairs.captions" not in error


def test_demonstrations(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record("tabletop", folder / "pick", 12, {"size": 32}, workers=1)
    command = f"align --dataset pick --out aligned {SMALL}"
    assert main(command.split()) == 0
    shown = capsys.readouterr().out
    assert "held-out pictures (8, 1 texts; R@1 of guessing 100.0%)" in shown and "never seen together" not in shown
    report = json.loads(Path("aligned/align.json").read_text())
    assert report["pairs"] == {"dataset": Dataset.open("pick").content(), "camera": "front", "frames": 8}
    Path("pick").rename("moved")
    assert main(f"align --dataset moved --camera front --out aligned {SMALL}".split()) == 0
    assert capsys.readouterr().out == shown
    for other, told_so in (
        ("--camera wrist", "pairs.camera ('front' then, 'wrist' now)"),
        ("--frames 4", "(8 then, 4 "),
    ):
        assert told_so in told(capsys, f"align --dataset moved --out aligned {other} {SMALL}", 2)
    train = "train tabletop-pick --dataset moved --out policy --image-size 32 --train.steps 1 --train.batch-size 4"
    assert main(f"{train} --init aligned".split()) == 0
    assert "init: the encoders of cameras (front, wrist) and words start from the aligned" in capsys.readouterr().err


def test_demonstrations_that_cannot_be_paired(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no camera 'frnt'; choose" in told(capsys, f"align --dataset {DATASET} --camera frnt --out o {SMALL}", 2)
    assert f"say --dataset {DATASET}" in told(capsys, f"align --pairs {DATASET} --out o {SMALL}", 2)
    silent = rewrite(DATASET, folder / "silent", "task_index", lambda index: index + 7)
    assert "silent: no instruction for task_index 7, first used in episode 0" in told(
        capsys, f"align --dataset {silent} --out o {SMALL}", 2
    )
    assert not Path("o").exists()


def test_scenes_in_which_everything_was_seen_have_no_part_for_the_unseen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"align --env tabletop --env-args combinations=all --scenes 40 --out a {SMALL}".split()) == 0
    assert "never seen together" not in capsys.readouterr().out


def test_encoders_are_swapped_as_for_a_policy() -> None:
    words = "--out o --vision timm --vision.name resnet18 --language text_transformer --language.width 32"
    verb = Align.parse(words.split(), "plait align")
    assert isinstance(verb, Align)
    assert verb.align.vision == TimmConfig("resnet18") and verb.align.language == TextTransformerConfig(width=32)


def test_the_help_shows_what_has_a_meaning_here(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Align.parse(["--help"], "plait align")
    shown = capsys.readouterr().out
    assert "--train.learning-rate" in shown and "--language lstm|text_transformer|hugging_face" in shown
    for option in ("modulation", "imbalance-every", "modality-dropout", "shard"):
        assert f"--train.{option}" not in shown and f"--train.no-{option}" not in shown


def test_the_help_lists_encoders_of_other_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("plait.config.installed", lambda slot: {f"other_{slot}": TimmConfig})
    with pytest.raises(SystemExit):
        Align.parse(["--help"], "plait align")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--vision patch|timm|other_vision" in shown and "hugging_face|other_language" in shown


def test_how_it_is_trained_is_told_as_for_a_policy() -> None:
    verb = Align.parse(["--out", "o", "--train.steps", "7"], "plait align")
    assert isinstance(verb, Align) and verb.train == replace(TRAIN, steps=7)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("align --out o", "align: say one of --env tabletop, --pairs FOLDER and --dataset DATASET."),
        ("align --out o --env tabletop --pairs p", "align: say one of --env tabletop, --pairs FOLDER and --dataset"),
        ("align --out o --env tabletop --dataset d", "align: say one of --env tabletop, --pairs FOLDER and --dataset"),
        ("align --out o --dataset nowhere", "nowhere: no such folder"),
        (
            "align --out o --env tabletop --camera wrist",
            "--camera wrist: it is one of a --dataset; say --env-args cameras",
        ),
        ("align --out o --pairs p --camera wrist", "--camera wrist: it is one of a --dataset."),
        ("align --out o --env tabletop --scenes 3", "scenes: 3 is too small; at least 20"),
        ("align --out o --env tabletop --train.val-fraction 0", "train.val_fraction = 0"),
        ("align --out o --pairs nowhere", "nowhere/captions.csv: no such file; list the pictures there"),
        ("align --out o --vision patsh", "no part for --vision 'patsh'; choose one of ['patch', 'timm']. Did you mean"),
        ("align --out o --env tabletop --stages 24 0", "align.stages: 0 is too small; at least 1"),
        ("align --out o --objective siglip", "--objective: no choice 'siglip'; choose one of ['infonce', 'sigmoid']"),
        (
            "align --out o --train.modulation.strength 1",
            "--train.modulation.strength: it is meant for policies, in plait",
        ),
        (
            "align --out o --train.imbalance_every=9",
            "--train.imbalance_every=9: it is meant for policies, in plait train",
        ),
        ("align --out o --train.no-shard", "--train.no-shard: it is meant for policies, in plait train; leave it out."),
        ("align --out o --lr 1", "no option '--lr'; plait align --help shows all options. Here it is --train.learning"),
        ("align --out o --train.lerning-rate 1", "Did you mean '--train.learning-rate'?"),
        ("align --env tabletop", "plait: --out is missing: Folder of the run"),
    ],
)
def test_what_is_wrong_is_told(command: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = told(capsys, command, 2)
    assert sentence in error and list(folder.iterdir()) == []
