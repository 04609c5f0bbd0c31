"""Record demonstrations: worker processes run a scripted expert, one process appends its episodes in order.

The dataset depends on the environment, its arguments, the seed and how scenes are shown: not on the number of workers,
nor on how often the recording was interrupted. There is one demonstration per scene. Scene ``i`` has a seed that is a
pure function of (seed, i); where the expert fails, the scene is laid out again with another one, of (seed, i, layout).
Where the environment fails, the scenes behind that one which are finished are kept: there alone, the order of the
episodes is another.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from plait.config import differences, refuse_other, refuse_small, to_dict
from plait.data import layout
from plait.data.episode import EncodedEpisode
from plait.data.info import read_info, read_plait
from plait.data.writer import DatasetWriter
from plait.files import locked
from plait.progress import Bar
from plait.record.demonstration import CLEAN, DemonstrationConfig
from plait.record.team import Team
from plait.versions import simulation_versions


@dataclass(frozen=True)
class Recording:
    """What was recorded: counts of the whole dataset; ``seconds``, ``new_frames`` and ``asked`` of this call.

    ``cache`` says what became of the image cache; "" when none was asked for.
    """

    out: Path
    episodes: int
    frames: int
    failed: int
    seconds: float
    new_frames: int
    asked: int
    cache: str = ""

    def __str__(self) -> str:
        rate = f", {self.new_frames / self.seconds:.0f} frames/s" if self.new_frames else ""
        left_out = f"; in {self.failed} more attempts the expert failed" if self.failed else ""
        asked = f" ({self.asked} were asked for)" if self.asked < self.episodes else ""
        cache = f"; {self.cache}" if self.cache else ""
        return f"{self.out}: {self.episodes} episodes{asked}, {self.frames} frames{rate}{left_out}{cache}"


def record(
    env: str,
    out: str | Path,
    episodes: int,
    env_args: dict[str, Any] | None = None,
    workers: int = 2,
    seed: int = 0,
    how: DemonstrationConfig = CLEAN,
    images: str = "auto",
    cache: bool = False,
) -> Recording:
    """Record demonstrations of a scripted expert as a LeRobotDataset v3.0.

    The same call continues a recording that was interrupted; with more ``episodes`` it extends a finished one.

    Args:
        env: environment with an expert, such as ``"tabletop"``.
        out: the dataset's folder.
        episodes: how many successful episodes the dataset shall hold.
        env_args: for the environment.
        workers: processes that simulate; the dataset does not depend on it.
        seed: of the scenes.
        how: the expert shows each scene; clean and once when left out.
        images: ``"png"`` or ``"video"``; ``"auto"`` takes PNG up to 96 pixels.
        cache: keep the pixels beside the dataset as well, where training at this size finds them and decodes nothing;
            needs PNG.

    Raises:
        ValueError: a wrong argument, an environment without an expert, an expert that only fails, or a folder with
            another recording (the message lists what differs) or one that goes on in another process.
        OSError: the disk is full. Every finished episode is safe.
        RuntimeError: the environment failed, or a scene ended several workers; the message names worker, scene and
            seed. Every finished episode is safe.
        KeyboardInterrupt: interrupted. Every finished episode is safe.
    """
    refuse_small(episodes=(episodes, 1), workers=(workers, 1), seed=(seed, 0))
    out, began = Path(out), time.perf_counter()
    arguments = {"env": env, "env_args": env_args or {}, "seed": seed, **to_dict(how), "images": images}
    arguments = json.loads(json.dumps(arguments))  # as the dataset will remember them
    _check_same(out, arguments)
    with Team(workers, arguments | {"cache": cache}) as team, locked(out):
        provenance = {"arguments": arguments, "versions": simulation_versions()}
        writer = DatasetWriter(out, team.spec, images, provenance, cache)
        before = writer.frames
        try:
            _write(team.episodes(_missing(writer, episodes)), writer, episodes)
        except (KeyboardInterrupt, RuntimeError) as error:
            safe = f"{writer.episodes} of {episodes} episodes are safe and the same command continues"
            raise type(error)(f"{str(error) or 'interrupted'}; {safe}") from None
    failed, seconds = sum(extra.get("failed", 0) for extra in writer.extras()), time.perf_counter() - began
    counts = (writer.episodes, writer.frames, failed, seconds, writer.frames - before, episodes)
    return Recording(out, *counts, _told(writer))


def _told(writer: DatasetWriter) -> str:
    if writer.cache is None:
        return ""
    return f"no image cache: {lost}; training decodes" if (lost := writer.cache.lost) else "images cached"


def _write(groups: Iterable[list[EncodedEpisode]], writer: DatasetWriter, total: int) -> None:
    before, began = writer.frames, time.perf_counter()
    with Bar("recording", total, "episodes", writer.episodes) as bar:
        for group in groups:
            writer.append(*group)
            speed = (writer.frames - before) / (time.perf_counter() - began)
            bar.advance(len(group), status=f"{speed:.0f} frames/s")
    writer.finalize()


def _missing(writer: DatasetWriter, episodes: int) -> list[int]:
    """The first scenes of which nothing is in the dataset, one for each episode that it lacks."""
    done = {extra["scene"] for extra in writer.extras()}
    return list(islice((scene for scene in count() if scene not in done), max(0, episodes - writer.episodes)))


def _check_same(out: Path, arguments: dict[str, Any]) -> None:
    if not (out / layout.INFO).exists() or not (out / layout.PLAIT).exists():
        return
    if not read_info(out)["total_episodes"]:
        return  # a recording that failed at once binds nobody
    before = read_plait(out)["provenance"].get("arguments", {})
    if before.get("dwell") and before.get("longest") and "slips" not in before:
        raise ValueError(f"{out}: recorded when --longest counted the steps of --dwell too; say --out another folder")
    refuse_other(out, differences(to_dict(CLEAN) | before, arguments))  # older ones had fewer
