"""Aligned encoders on disk: a folder as a policy's checkpoint is, with ``alignment`` in its config.json."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from plait.alignment.aligner import AlignConfig, Aligner
from plait.checkpoint import describe, find, read, write
from plait.config import from_dict, to_dict

ALIGNMENT = "alignment"


def save(aligner: Aligner, folder: Path, provenance: dict[str, Any], extra: Callable[[Path], None]) -> None:
    """Write a checkpoint. It appears under its name only when it is complete and on the disk itself."""
    write(aligner, aligner.tokenizer, {ALIGNMENT: to_dict(aligner.config), "provenance": provenance}, folder, extra)


def is_aligned(path: Path | str) -> bool:
    """Whether the checkpoint, or the newest one of the run, is of aligned encoders and not of a policy."""
    return ALIGNMENT in describe(find(path))


def load(path: Path | str) -> Aligner:
    """The encoders of a checkpoint folder, or of a run folder's newest checkpoint, in evaluation mode on the CPU.

    Raises:
        ValueError: there is no checkpoint, it is a policy's or newer than this plait, or its files are damaged.
    """
    folder = find(path)
    description = describe(folder)
    if ALIGNMENT not in description:
        raise ValueError(f"checkpoint {folder}: it is a policy; give the folder of a run of plait align")
    config = from_dict(AlignConfig, description[ALIGNMENT], ALIGNMENT)
    return read(folder, lambda tokenizer: config.build(tokenizer, pretrained=False))
