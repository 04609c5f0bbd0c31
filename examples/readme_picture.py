"""The moving picture of the README: films of a finished quickstart side by side, played until the last one ends.

python examples/readme_picture.py quickstart docs/images/rollouts.webp
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageSequence

COLUMNS, WIDTH = 4, 240


def frames(path: Path) -> list[Image.Image]:
    """All frames of an animation, scaled to WIDTH."""
    with Image.open(path) as film:
        size = (WIDTH, round(film.height * WIDTH / film.width))
        return [frame.convert("RGB").resize(size, Image.Resampling.LANCZOS) for frame in ImageSequence.Iterator(film)]


def films(folder: Path) -> list[Path]:
    """The filmed episodes: those with the normal instruction, then those with another object named."""
    found = []
    for trial in ("normal", "exchanged"):
        result = json.loads((folder / "eval" / trial / "eval.json").read_text("utf-8"))
        found += [folder / "eval" / trial / row["video"] for row in result["per_episode"] if "video" in row]
    return found[:COLUMNS]


def main(folder: Path, out: Path) -> None:
    columns = [frames(path) for path in films(folder)]
    height = max(column[0].height for column in columns)
    sheets = []
    for step in range(max(map(len, columns)) + 8):  # the end stays for a moment
        sheet = Image.new("RGB", (WIDTH * len(columns), height), "white")
        for place, column in enumerate(columns):
            sheet.paste(column[min(step, len(column) - 1)], (place * WIDTH, 0))
        sheets.append(sheet)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheets[0].save(out, save_all=True, append_images=sheets[1:], duration=100, loop=0, quality=60, method=4)
    print(f"{out}: {len(sheets)} frames, {out.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
