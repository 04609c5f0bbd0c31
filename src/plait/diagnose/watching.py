"""A rollout as a film: what each camera shows, and where the policy looked when it last predicted."""

from bisect import bisect
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from plait.control import Controller
from plait.data.keys import IMAGE_PREFIX, STATE
from plait.diagnose.heatmaps import Heatmaps, heatmaps
from plait.diagnose.overlay import enlarged, overlaid
from plait.evaluate.lettering import font_for, legible, wrapped
from plait.evaluate.video import FAILURE, FAINT, INK, LINE, MARGIN, PAPER, SUCCESS
from plait.evaluate.worker import Scenes
from plait.policy import Policy
from plait.types import Inputs, Observation

ACROSS = 5  # tiles beside each other
NARROW, WIDE = 104, 208  # of a tile, in pixels: where there are many words, and where there is one map
Picture = NDArray[np.uint8]
Raw = dict[str, NDArray]  # as the environment gives it
Tiles = dict[str, list[tuple[str, Picture]]]  # camera -> title and picture of each tile


@dataclass(frozen=True)
class Film:
    """Of one episode."""

    instruction: str
    frames: list[Image.Image]
    success: bool


def watch(policy: Policy, scenes: Scenes, episode: int) -> Film:
    """Let the policy act in one of the scenes. On the left stands each camera's picture at that step. The maps beside
    it, one for each word, lie over the picture that they were computed from, and stay until the next prediction.
    """
    controller, shots = Controller(policy), list[Raw]()
    looks: list[int] = []  # the steps at which it predicts
    with closing(scenes.make()) as env:
        observation, info = scenes.reset(env, episode)
        instruction, ended, success = str(info.get("task", "")), False, bool(info.get("is_success"))
        while not ended:
            looks.append(len(shots))
            for action in controller.plan(_together([observation], instruction), np.array([len(looks) == 1]))[0]:
                shots.append(observation)
                observation, _, terminated, truncated, info = env.step(action)
                success, ended = success or bool(info.get("is_success")), bool(terminated or truncated)
                if ended:
                    break
        shots.append(observation)
    tiles, last = _tiles(policy, _together([shots[step] for step in looks], instruction)), len(shots) - 1
    shown = [tiles[bisect(looks, step) - 1] for step in range(len(shots))]
    pairs = enumerate(zip(map(_pictures, shots), shown, strict=True))
    return Film(instruction, [_frame(instruction, *shot, (step, last), success) for step, shot in pairs], success)


def titles(found: Heatmaps, policy: Policy, inputs: Inputs) -> list[str]:
    """Of each of the first row's maps: its word, as the policy's tokeniser cuts them, if there is a map for each."""
    if found.words.shape[1] == 1:
        return ["where it looks"]
    numbers = inputs.words[0][inputs.word_mask[0]].tolist()
    return [legible(policy.tokenizer.backend.id_to_token(number) or "") for number in numbers] or ["(no words)"]


def _together(moments: Sequence[Raw], instruction: str) -> Observation:
    images = {camera: np.stack([_pictures(raw)[camera] for raw in moments]) for camera in _pictures(moments[0])}
    state = np.stack([raw[STATE] for raw in moments]) if STATE in moments[0] else None
    return Observation(images, state, [instruction] * len(moments))


def _pictures(observation: Raw) -> dict[str, Picture]:
    return {k.removeprefix(IMAGE_PREFIX): picture for k, picture in observation.items() if k.startswith(IMAGE_PREFIX)}


def _tiles(policy: Policy, seen: Observation) -> list[Tiles]:
    """Of each moment of an episode, all in one go: one by one they take several times as long."""
    inputs = policy.prepare(seen)
    found = heatmaps(policy, inputs)
    names = titles(found, policy, inputs)
    side = WIDE if len(names) == 1 else NARROW
    return [
        {
            camera: list(zip(names, overlaid(seen.images[camera][row], maps[row, : len(names)], side), strict=True))
            for camera, maps in found.maps.items()
        }
        for row in range(len(seen))
    ]


def _frame(
    instruction: str, pictures: dict[str, Picture], maps: Tiles, moment: tuple[int, int], success: bool
) -> Image.Image:
    """The instruction, rows of tiles, and how far the episode is."""
    step, last = moment
    side = next(iter(maps.values()))[0][1].shape[1]
    rows = [row for camera, tiles in maps.items() for row in _rows((camera, enlarged(pictures[camera], side)), tiles)]
    width = 2 * MARGIN + max(len(row) for row in rows) * (side + 2) - 2
    lines = wrapped(legible(instruction) or "(no instruction)", width - 2 * MARGIN, 15)
    heights = [LINE + max(picture.shape[0] for _, picture in row) + 6 for row in rows]
    height = 2 * MARGIN + LINE * len(lines) + sum(heights) + LINE
    frame = Image.new("RGB", (width, height), PAPER)
    canvas, top = ImageDraw.Draw(frame), MARGIN
    for line in lines:
        canvas.text((MARGIN, top), line, INK, font_for(line, 15))
        top += LINE
    for row, tall in zip(rows, heights, strict=True):
        _draw_row(frame, canvas, row, top + 4)
        top += tall
    word, colour = ("success", SUCCESS) if success else ("failure", FAILURE)
    word, colour = (word, colour) if step == last else ("running", FAINT)
    canvas.text((MARGIN, top + 6), word, colour, font_for(word, 13))
    count = f"step {step} / {last}"
    canvas.text((width - MARGIN, top + 6), count, FAINT, font_for(count, 13), anchor="ra")
    return frame


def _rows(first: tuple[str, Picture], tiles: Sequence[tuple[str, Picture]]) -> list[list[tuple[str, Picture]]]:
    all_tiles = [first, *tiles]
    return [all_tiles[start : start + ACROSS] for start in range(0, len(all_tiles), ACROSS)]


def _draw_row(frame: Image.Image, canvas: ImageDraw.ImageDraw, row: list[tuple[str, Picture]], top: int) -> None:
    for column, (title, picture) in enumerate(row):
        left = MARGIN + column * (picture.shape[1] + 2)
        font = font_for(title, 12)
        while font.getlength(title) > picture.shape[1] and len(title) > 1:
            title = title[:-1]
        canvas.text((left, top), title, INK, font)
        frame.paste(Image.fromarray(picture), (left, top + LINE - 2))
