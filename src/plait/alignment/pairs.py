"""Pictures and what is true of each in words: from the tabletop's simulator, or from a folder."""

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from plait import envs
from plait.alignment.captions import captions
from plait.data.images import resize
from plait.data.keys import IMAGE_PREFIX
from plait.data.layout import INFO
from plait.data.loader import held_out
from plait.envs.tabletop.scene import Layout
from plait.progress import Bar

CAPTIONS = "captions.csv"
COLUMNS = ("file", "text")
SEEDS = 2**30  # those of scenes lie below, as those of recordings do; evaluations use none of them
ALIGNMENT = 1  # sets the scenes apart from those of a recording with the same seed


@dataclass(frozen=True)
class Pairs:
    """n pictures in memory, 3 bytes a pixel, and of each one text or several, every one of which is true of it."""

    images: UInt8[Tensor, "n h w 3"]
    texts: list[list[str]]

    def __len__(self) -> int:
        return len(self.texts)

    def some(self, rows: np.ndarray) -> "Pairs":
        return Pairs(self.images[torch.from_numpy(rows)], [self.texts[row] for row in rows.tolist()])

    def kept(self, share: float) -> np.ndarray:
        """The pictures that are held out: a fixed draw, so that every run and tool picks the same."""
        return held_out(len(self), share)

    def drawn(self, rng: np.random.Generator) -> list[str]:
        """One text of each picture."""
        return [texts[rng.integers(len(texts))] for texts in self.texts]


@dataclass(frozen=True)
class Scenes(Pairs):
    """Scenes of the tabletop, with what the simulator knows of each.

    Attributes:
        layouts: where everything is.
        targets: the name of the object that the scene's instruction asks for.
    """

    layouts: list[Layout]
    targets: list[str]

    def some(self, rows: np.ndarray) -> "Scenes":
        layouts, targets = ([column[row] for row in rows.tolist()] for column in (self.layouts, self.targets))
        return Scenes(**vars(super().some(rows)), layouts=layouts, targets=targets)


def scenes(env: str, env_args: dict[str, Any], count: int, size: int, seed: int = 0) -> Scenes:
    """The first moment of ``count`` scenes, seen by the environment's first camera; they follow from ``seed`` alone.

    Args:
        env_args: of the environment; without ``cameras``, the front one is looked through.
        size: of the pictures, in pixels.

    Raises:
        ValueError: an environment that does not tell where its objects are, or without a camera.
    """
    images, layouts, targets = [], [], []
    made: Any = envs.make(env, **{"cameras": "front", "size": size, **env_args} if env == "tabletop" else env_args)
    with closing(made), Bar("drawing scenes", count, "scenes") as bar:
        if not hasattr(type(made.unwrapped), "layout"):
            raise ValueError(
                f"{env}: captions are made for tabletop alone; say --pairs FOLDER for pictures of your own"
            )
        if not made.unwrapped.embodiment.cameras:
            raise ValueError(f"{env}: there is no camera; leave cameras out of --env-args, or name one")
        camera = next(iter(made.unwrapped.embodiment.cameras))
        for scene in range(count):
            observation, info = made.reset(seed=scene_seed(seed, scene))
            images.append(observation[IMAGE_PREFIX + camera])
            layouts.append(made.unwrapped.layout)
            targets.append(info["target"])
            bar.advance()
    pictures = resize(torch.from_numpy(np.stack(images)), (size, size))
    return Scenes(pictures, [captions(layout) for layout in layouts], layouts, targets)


def scene_seed(seed: int, scene: int) -> int:
    return int(np.random.SeedSequence([seed, scene, 0, ALIGNMENT]).generate_state(1)[0]) % SEEDS


def read_pairs(folder: Path | str, size: int) -> Pairs:
    """A folder with pictures and ``captions.csv``, whose first line is ``file,text``; a file may have several lines.

    Args:
        folder: files are named relative to it.
        size: pictures are resized to this square, in pixels.

    Raises:
        ValueError: there is no such list, or a line of it is wrong, such as a text that goes on in the next line; the
            message names the line.
    """
    table = Path(folder) / CAPTIONS
    texts: dict[str, list[str]] = {}
    for file, text in _lines(table):
        texts.setdefault(file, []).append(text)
    if not texts:
        raise ValueError(f"{table}: no line follows the first one; give each picture a line, such as a.png,a red ball")
    with Bar("reading pictures", len(texts), "pictures") as bar:
        images = []
        for file in texts:
            images.append(_picture(Path(folder) / file, size))
            bar.advance()
    return Pairs(torch.cat(images), list(texts.values()))


def contents(folder: Path | str) -> dict[str, Any]:
    """What tells this folder from others: a fingerprint of its list and one of its pictures' files, so that it may be
    moved.
    """
    table, pictures = Path(folder) / CAPTIONS, sha256()
    for file in dict.fromkeys(file for file, _ in _lines(table)):
        pictures.update(sha256((Path(folder) / file).read_bytes()).digest())
    return {"captions": sha256(table.read_bytes()).hexdigest()[:16], "pictures": pictures.hexdigest()[:16]}


def _lines(table: Path) -> Iterator[tuple[str, str]]:
    if not table.is_file():
        folder = table.parent
        if (folder / INFO).is_file():
            raise ValueError(f"{folder}: this is a LeRobotDataset, and no list of pictures; say --dataset {folder}")
        raise ValueError(f"{table}: no such file; list the pictures there, the first line being {','.join(COLUMNS)}")
    rows = _cells(table)
    _, names = next(rows, (1, []))
    if missing := [name for name in COLUMNS if name not in names]:
        raise ValueError(f"{table}: no column {missing[0]!r}; the first line must be {','.join(COLUMNS)}")
    for line, cells in rows:
        if not cells:
            continue
        row = dict(zip(names, map(str.strip, cells), strict=False))
        if len(cells) > len(names) or not all(map(row.get, COLUMNS)):
            raise ValueError(
                f"{table}, line {line}: expected a file and a text; put a text that has commas between "
                'double quotes, as in a.png,"red, blue"'
            )
        yield row["file"], row["text"]


def _cells(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line and its cells. No cell goes on in the next line: a quote that nobody closed would take in
    the lines that follow.
    """
    for number, line in enumerate(io.StringIO(_decoded(table), newline=""), 1):
        if "\0" in line:
            raise ValueError(f"{table}, line {number}: it has a NUL byte; save the list as plain text in UTF-8")
        try:
            yield number, next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            if len(line) > csv.field_size_limit():
                raise ValueError(f"{table}, line {number}: {error}; shorten the text") from error
            raise ValueError(
                f"{table}, line {number}: a double quote is opened and not closed in this line, or something follows "
                'the closing one; write a text on one line, and a quote in it twice, as in a.png,"a ""red"" ball"'
            ) from error


def _decoded(table: Path) -> str:
    try:
        return table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise ValueError(f"{table}, line {line}: byte {byte:#04x} is not UTF-8; save the list as UTF-8") from error


def _picture(path: Path, size: int) -> UInt8[Tensor, "1 h w 3"]:
    import cv2  # only where it is used

    if not path.is_file():
        raise ValueError(f"{path}: no such picture, but {CAPTIONS} names it; files are relative to its folder")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{path} is not a picture that can be read; PNG and JPEG are")
    return resize(torch.from_numpy(image)[None], (size, size))
