"""What several pages say and show: modalities by name, shares as bars, films."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from plait.diagnose import page
from plait.diagnose.subject import EVALUATIONS, Subject
from plait.spec import CAMERA_PREFIX, INSTRUCTION, STATE, is_camera


def spoken(modality: str) -> str:
    """``images.front`` -> ``the front camera``."""
    if is_camera(modality):
        return f"the {modality.removeprefix(CAMERA_PREFIX)} camera"
    return {STATE: "the state", INSTRUCTION: "the words"}[modality]


def listed(words: list[str], last: str = "and") -> str:
    """``["a", "b", "c"]`` -> ``a, b and c``."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def count(total: dict[str, Any], share: str = "pc_success") -> str:
    """``23 of 25``: how many episodes a share stands for."""
    return f"{round(total[share] / 100 * total['n_episodes'])} of {total['n_episodes']}"


def bar(total: dict[str, Any], key: str, label: str, note: str = "", tone: str = "good") -> page.Interval:
    """A share of a summary, such as ``aggregated``, with its interval and the number of episodes."""
    low, high = total[f"{key}_ci95"]
    episodes = f"n\u00a0=\u00a0{total['n_episodes']}"
    return page.Interval(label, total[key] or 0.0, low, high, f"{note}; {episodes}" if note else episodes, tone)


def films(subject: Subject, name: str, result: dict[str, Any]) -> list[str]:
    """The gallery of an evaluation's films; none where no evaluation is kept."""
    filmed = [row for row in result["per_episode"] if "video" in row]
    if subject.folder is None or not filmed:
        return []
    folder = subject.folder / EVALUATIONS / name
    text = "Below each picture: the numbers that the policy sends to the robot."
    return [page.prose(text), page.gallery(_animation(folder, row) for row in filmed)]


def _animation(folder: Path, row: dict[str, Any]) -> page.Animation:
    """An episode's film, below the folder of its ``eval.json``; the still is its last picture."""
    path, still = folder / row["video"], io.BytesIO()
    with Image.open(path) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        image.convert("RGB").save(still, "webp", quality=70)
    caption = f"“{row['instruction']}”"
    if row.get("first_named") != row.get("target"):
        caption += f", not the {row['first_named']} as before"
    outcome = "and succeeds" if row["success"] else "and fails"
    alt = f"The robot, told “{row['instruction']}”, acts for {row['steps']} steps {outcome}."
    return page.Animation(path.read_bytes(), still.getvalue(), alt, caption, row["success"])
