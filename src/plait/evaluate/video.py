"""Finished episodes as moving pictures: the scene, the instruction, the outcome and the actions, drawn in.

An episode is repeated from its seed and its actions, so that any one can be filmed after the fact, failures first.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
from PIL import Image, ImageDraw

from plait.data.keys import IMAGE_PREFIX
from plait.evaluate.lettering import font_for, legible, wrapped
from plait.evaluate.pool import Episode
from plait.evaluate.worker import Scenes

WIDTH = 320  # of the picture, in pixels
MARGIN, LINE, BAR = 10, 19, 26
PAPER, INK, FAINT = "#14171c", "#f2f4f7", "#8b94a3"
UNDECIDED, SUCCESS, FAILURE, ACTION = "#8b94a3", "#4ad295", "#ff7a6b", "#6cb2ff"


def chosen(episodes: Sequence[Episode], n: int) -> list[Episode]:
    """Up to n episodes, half of them failures if there are so many, in order."""
    ordered = sorted(episodes, key=lambda episode: episode.index)
    failures = [episode for episode in ordered if not episode.success]
    successes = [episode for episode in ordered if episode.success]
    few = min(len(failures), max(n // 2, n - len(successes)))
    return sorted([*failures[:few], *successes[: n - few]], key=lambda episode: episode.index)


def film(scenes: Scenes, episode: Episode, names: Sequence[str]) -> list[Image.Image]:
    """Repeat the episode and draw each of its steps.

    Args:
        names: of the action's entries, for the bars.

    Raises:
        RuntimeError: the environment ended otherwise than in the first run, so it is not a function of its seed.
    """
    env = scenes.make()
    try:
        pictures, success = _repeat(env, scenes, episode)
    finally:
        env.close()
    if success != episode.success:
        raise RuntimeError(
            f"episode {episode.index} (seed {episode.seed}) ended otherwise when it was repeated for its video: "
            f"environment {scenes.env!r} is not a function of its seed"
        )
    limit = max(1.0, float(np.abs(episode.actions).max(initial=0)))
    text = legible(episode.instruction) or "(no instruction)"
    still = np.zeros_like(episode.actions[0])
    actions = [*episode.actions, still]
    return [
        draw(picture, text, step, episode, dict(zip(names, map(float, actions[step] / limit), strict=True)))
        for step, picture in enumerate(pictures)
    ]


def draw(picture: np.ndarray, text: str, step: int, episode: Episode, bars: dict[str, float]) -> Image.Image:
    """One frame: the instruction above the picture, below it the outcome, the step, and a bar in [-1, 1] per action."""
    scene = Image.fromarray(picture)
    scene = scene.resize((WIDTH, round(WIDTH * scene.height / scene.width)), Image.Resampling.BICUBIC)
    lines = wrapped(text, WIDTH - 2 * MARGIN, 15)
    head = LINE * len(lines) + 2 * MARGIN
    height = head + scene.height + LINE + 2 * MARGIN + BAR + LINE
    frame = Image.new("RGB", (WIDTH, height + height % 2), PAPER)  # video codecs want even sizes
    frame.paste(scene, (0, head))
    canvas = ImageDraw.Draw(frame)
    for row, line in enumerate(lines):
        canvas.text((MARGIN, MARGIN + row * LINE), line, INK, font_for(line, 15))
    _status(canvas, head + scene.height + MARGIN, step, episode)
    _bars(canvas, head + scene.height + MARGIN + LINE + 4, bars)
    return frame


def write_video(path: Path, frames: Sequence[Image.Image], rate: float) -> Path:
    """Write ``.mp4`` (H.264 where this build of FFmpeg has it, else MPEG-4) or an animated ``.webp``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".mp4":
        hold = [round(1000 / rate)] * (len(frames) - 1) + [1200]  # rest on the outcome before it starts again
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=hold, loop=0, quality=70)
        return path
    codec = next(name for name in ("libx264", "libopenh264", "mpeg4") if name in av.codecs_available)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "20"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    return path


def _repeat(env: gymnasium.Env, scenes: Scenes, episode: Episode) -> tuple[list[np.ndarray], bool]:
    """The pictures from reset to end, one more than there are actions, and whether it succeeded again."""
    observation, info = scenes.reset(env, episode.index)
    pictures, success = [_picture(env, observation)], bool(info.get("is_success"))
    for action in episode.actions:
        observation, *_, info = env.step(action)
        success |= bool(info.get("is_success"))
        pictures.append(_picture(env, observation))
    return pictures, success


def _picture(env: gymnasium.Env, observation: dict[str, Any]) -> np.ndarray:
    """What the environment shows to people, or else what the policy's cameras see, side by side."""
    if env.render_mode == "rgb_array":
        return np.asarray(env.render())
    views = [Image.fromarray(image) for key, image in observation.items() if key.startswith(IMAGE_PREFIX)]
    height = max((view.height for view in views), default=1)
    same = [np.asarray(view.resize((view.width * height // view.height, height))) for view in views]
    return np.concatenate(same, axis=1) if same else np.zeros((WIDTH // 2, WIDTH, 3), np.uint8)


def _status(canvas: ImageDraw.ImageDraw, top: int, step: int, episode: Episode) -> None:
    ended = step >= len(episode.actions)
    word, colour = ("success", SUCCESS) if episode.success else ("failure", FAILURE)
    word, colour = (word, colour) if ended else ("running", UNDECIDED)
    canvas.ellipse((MARGIN, top + 3, MARGIN + 10, top + 13), fill=colour)
    canvas.text((MARGIN + 17, top), word, INK if ended else FAINT, font_for(word, 13))
    count = f"step {step} / {len(episode.actions)}"
    canvas.text((WIDTH - MARGIN, top), count, FAINT, font_for(count, 13), anchor="ra")


def _bars(canvas: ImageDraw.ImageDraw, top: int, bars: dict[str, float]) -> None:
    """A column per entry: the bar leaves the middle upwards when positive; its name stands below."""
    pitch = (WIDTH - 2 * MARGIN) / max(1, len(bars))
    middle = top + BAR / 2
    for column, (name, value) in enumerate(bars.items()):
        left = MARGIN + column * pitch
        reach = middle - float(np.clip(value, -1, 1)) * BAR / 2
        canvas.rectangle((left + 2, min(middle, reach), left + pitch - 3, max(middle, reach)), fill=ACTION)
        canvas.line((left + 2, middle, left + pitch - 3, middle), fill=FAINT)
        font = font_for(name, 10)
        while font.getlength(name) > pitch - 1 and len(name) > 1:
            name = name[:-1]
        canvas.text((left + pitch / 2, top + BAR + 3), name, FAINT, font, anchor="ma")
