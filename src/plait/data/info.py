"""``info.json`` and ``plait.json`` of a dataset: read, with a check of everything that is used of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plait.config import from_dict
from plait.data import layout
from plait.spec import Spec

CONVERT = "python -m lerobot.scripts.convert_dataset_v21_to_v30"
_NEEDED = ("features", "fps", "total_episodes", "total_frames", "data_path")
_NEEDED_FEATURES = (layout.ACTION, "episode_index", "task_index")


def read_info(path: Path) -> dict[str, Any]:
    """``info.json`` of a v3 dataset.

    Raises:
        ValueError: no dataset there, another format version (with the way to convert it), or a field that is missing or
            not what the format has there.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such folder"
        raise ValueError(f"{path}: {what}; give the folder of a LeRobotDataset v3.0 (it holds {layout.INFO})")
    file = path / layout.INFO
    info = layout.read_json(file)
    if not isinstance(info, dict):
        raise ValueError(f"{file}: holds {_short(info)}, not a table of names and values; restore it from a copy")
    version = str(info.get("codebase_version"))
    if version.startswith("v2"):
        raise ValueError(f"{path}: LeRobotDataset {version}; plait reads v3. Convert it with `{CONVERT} --repo-id ...`")
    if not version.startswith("v3"):
        raise ValueError(f"{path}: codebase_version {version!r} in {layout.INFO}; plait reads LeRobotDataset v3")
    if problem := next(_problems(info), None):
        raise ValueError(f"{file}: {problem}; restore it from a copy, or correct it")
    return info


def read_plait(path: Path) -> dict[str, Any]:
    """What plait keeps in a dataset of its own, ``"spec"`` and ``"provenance"``; {} for one that it did not write.

    Raises:
        ValueError: the file is damaged.
    """
    file = path / layout.PLAIT
    content = layout.read_json(file) if file.exists() else {"spec": {}, "provenance": {}}
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in ("spec", "provenance")):
        way_out = "restore it from a copy, or delete it: the dataset then counts as one that plait did not write"
        raise ValueError(f"{file}: lacks the tables spec and provenance; {way_out}")
    return content if file.exists() else {}


def read_spec(path: Path, info: dict[str, Any]) -> Spec:
    """The ``Spec`` that plait stored when it still fits the features; else what the features alone tell."""
    plain, kept = layout.spec_from_info(info), read_plait(path)
    if not kept:
        return plain
    spec = from_dict(Spec, kept["spec"], str(path / layout.PLAIT))
    same = all(getattr(spec, name) == getattr(plain, name) for name in ("cameras", "state", "actions", "rate"))
    return spec if same else plain


def _problems(info: dict[str, Any]) -> Iterator[str]:
    """What is not as the format has it; each check relies on those before it."""
    if missing := [name for name in _NEEDED if name not in info]:
        yield f"lacks {', '.join(missing)}"
    features = info["features"]
    if not isinstance(features, dict):
        yield f"features is {_short(features)}; a table of features is expected"
    yield from (f"lacks the feature {name}" for name in _NEEDED_FEATURES if name not in features)
    for name, feature in features.items():
        if not _is_feature(feature):
            yield f"feature {name} is {_short(feature)}; a dtype and a shape of whole numbers are expected"
    if isinstance(info["fps"], bool) or not isinstance(info["fps"], int | float) or not info["fps"] > 0:
        yield f"fps is {info['fps']!r}; a number above 0 is expected"
    for name in ("total_episodes", "total_frames"):
        if not isinstance(info[name], int) or info[name] < 0:
            yield f"{name} is {info[name]!r}; a whole number is expected"
    yield from _pattern_problems(info, "data_path", {"chunk_index": 0, "file_index": 0})
    if any(feature["dtype"] == "video" for feature in features.values()):
        yield from _pattern_problems(info, "video_path", {"video_key": "", "chunk_index": 0, "file_index": 0})


def _is_feature(feature: Any) -> bool:
    if not isinstance(feature, dict) or not isinstance(feature.get("dtype"), str):
        return False
    shape = feature.get("shape")
    if not isinstance(shape, list) or not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        return False
    return len(shape) == 3 or feature["dtype"] not in ("image", "video")


def _pattern_problems(info: dict[str, Any], name: str, places: dict[str, Any]) -> Iterator[str]:
    try:
        info[name].format(**places)
    except (KeyError, IndexError, ValueError, AttributeError):  # another place, no name in it, no text at all
        expected = ", ".join(f"{{{place}}}" for place in places)
        yield f"{name} is {info.get(name)!r}; a text with the places {expected} is expected"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
