"""Pairs follow from a seed, or from a folder whose faults are named by file and line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from plait.alignment.captions import captions
from plait.alignment.pairs import Pairs, contents, read_pairs, scene_seed, scenes
from plait.data.images import resize
from plait.data.png import encode_png
from plait.envs.tabletop.vocabulary import VOCABULARIES

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)


def folder(path: Path, table: str) -> Path:
    for name, pixels in zip(("a", "b", "c"), PIXELS, strict=True):
        (path / f"{name}.png").write_bytes(encode_png(pixels))
    (path / "captions.csv").write_text(table, encoding="utf-8")
    return path


def test_scenes_follow_from_the_seed() -> None:
    found, again, other = (scenes("tabletop", {}, 3, 32, seed) for seed in (0, 0, 1))
    assert torch.equal(found.images, again.images) and found.texts == again.texts
    assert found.texts != other.texts and not torch.equal(found.images, other.images)
    assert found.images.shape == (3, 32, 32, 3)
    assert found.texts == [captions(layout) for layout in found.layouts]
    assert all(f"the {target} " in f"{texts[0]} " for target, texts in zip(found.targets, found.texts, strict=True))
    some = found.some(np.array([2, 0]))
    assert some.texts == [found.texts[2], found.texts[0]] and some.targets == [found.targets[2], found.targets[0]]


def test_no_evaluation_has_one_of_these_scenes() -> None:
    seeds = [scene_seed(0, scene) for scene in range(1000)]
    assert max(seeds) < 2**30 and len(set(seeds)) == 1000


def test_arguments_of_the_environment_choose_the_scenes_and_the_camera() -> None:
    held_out = {" ".join(pair) for pair in VOCABULARIES["small"].held_out}
    unseen = scenes("tabletop", {"combinations": "unseen", "cameras": "wrist", "size": 48}, 3, 32)
    assert set(unseen.targets) <= held_out and unseen.images.shape == (3, 32, 32, 3)
    assert not torch.equal(unseen.images, scenes("tabletop", {"combinations": "unseen"}, 3, 32).images)


@pytest.mark.parametrize(
    ("env", "env_args", "message"),
    [
        ("CartPole-v1", {}, "CartPole-v1: no environment|captions are made for tabletop alone; say --pairs FOLDER"),
        ("tabletop", {"cameras": []}, "tabletop: there is no camera; leave cameras out of --env-args"),
    ],
)
def test_scenes_that_cannot_be_described_are_refused(env: str, env_args: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes(env, env_args, 1, 32)


def test_a_folder_gives_each_picture_all_its_texts(tmp_path: Path) -> None:
    pairs = read_pairs(folder(tmp_path, 'file,text\na.png,a red ball\nb.png,"blue, round"\na.png, 빨간 공\n'), 8)
    assert pairs.texts == [["a red ball", "빨간 공"], ["blue, round"]]
    assert torch.equal(pairs.images, resize(torch.from_numpy(PIXELS[:2]), (8, 8)))
    drawn = {tuple(pairs.drawn(np.random.default_rng(seed))) for seed in range(20)}
    assert drawn == {("a red ball", "blue, round"), ("빨간 공", "blue, round")}


def test_a_folder_is_known_by_its_list(tmp_path: Path) -> None:
    before = contents(folder(tmp_path, "file,text\na.png,a\n"))
    assert before == contents(folder(tmp_path, "file,text\na.png,a\n"))
    assert before != contents(folder(tmp_path, "file,text\na.png,b\n"))


def test_a_folder_is_known_by_the_contents_of_its_pictures(tmp_path: Path) -> None:
    before = contents(folder(tmp_path, "file,text\na.png,a\na.png,c\n"))
    (tmp_path / "b.png").write_bytes(encode_png(PIXELS[2]))
    assert contents(tmp_path) == before, "it is not in the list"
    (tmp_path / "a.png").write_bytes(encode_png(PIXELS[2]))
    assert contents(tmp_path)["captions"] == before["captions"] and contents(tmp_path) != before


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "captions.csv: no column 'file'; the first line must be file,text"),
        ("file,caption\na.png,a\n", "captions.csv: no column 'text'; the first line must be file,text"),
        ("file,text\n", "captions.csv: no line follows the first one"),
        ("file,text\na.png,a\nb.png\n", "captions.csv, line 3: expected a file and a text"),
        ("file,text\na.png,red, round\n", "line 2: expected a file and a text; put a text that has commas between"),
        ("file,text\na.png,  \n", "line 2: expected a file and a text"),
        ('file,text\na.png,"a\nb.png,b\nc.png,c\n', "line 2: a double quote is opened and not closed in this line"),
        ('file,text\na.png,a\n\nb.png,"b\nc.png,"c"\n', "line 4: a double quote is opened and not closed in this line"),
        ('file,text\na.png,"a\nball"\n', "line 2: .* write a text on one line, and a quote in it twice, as in a.png,"),
        ('file,text\na.png,"a" ball\n', "line 2: .* or something follows the closing one"),
        (f"file,text\na.png,{'a' * 140_000}\n", r"line 2: field larger than field limit \(131072\); shorten the text"),
        ("file,text\na.png,a\nb\0.png,b\n", "line 3: it has a NUL byte; save the list as plain text in UTF-8"),
        ("file,text\nd.png,a\n", r"d.png: no such picture, but captions.csv names it"),
        ("file,text\ncaptions.csv,a\n", "captions.csv is not a picture that can be read; PNG and JPEG are"),
    ],
)
def test_a_wrong_list_is_told_with_its_line(table: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(folder(tmp_path, table), 8)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("file,text\na.png,a\nb.png,grün\n".encode("latin-1"), "line 3: byte 0xfc"),
        ("\ufefffile,text\na.png,".encode() + b"\xe9\n", "line 2: byte 0xe9"),
        ("file,text\na.png,a\n".encode("utf-16"), "line 1: byte 0xff"),
    ],
    ids=["latin-1", "utf-8 with a mark", "utf-16"],
)
def test_a_list_that_is_not_utf_8_is_told_with_its_line(content: bytes, place: str, tmp_path: Path) -> None:
    (folder(tmp_path, "") / "captions.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"captions\.csv, {place} is not UTF-8; save the list as UTF-8$"):
        read_pairs(tmp_path, 8)


def test_quotes_ends_of_lines_and_other_columns_are_as_spreadsheets_write_them(tmp_path: Path) -> None:
    table = '\ufefftext,note,file\r\n"a ""red"", round ball",,a.png\r\n\r\n5" wide,x,b.png\r\n'
    (folder(tmp_path, "") / "captions.csv").write_bytes(table.encode())
    assert read_pairs(tmp_path, 8).texts == [['a "red", round ball'], ['5" wide']]


def test_a_folder_without_a_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"captions\.csv: no such file; list the pictures there"):
        read_pairs(tmp_path, 8)


def test_some_pairs_are_rows() -> None:
    pairs = Pairs(torch.arange(36, dtype=torch.uint8).reshape(3, 2, 2, 3), [["a"], ["b"], ["c"]])
    some = pairs.some(np.array([2, 1]))
    assert some.texts == [["c"], ["b"]] and torch.equal(some.images, pairs.images[[2, 1]])
