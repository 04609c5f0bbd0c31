"""What the scripts beside this file end with: a table for people, the same as JSON, both named for when and on what."""

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from plait.evaluate.protocol import versions
from plait.files import write_whole

RESULTS = Path(__file__).parent / "results"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In Markdown."""
    first, *others = (f"| {' | '.join(map(str, line))} |" for line in (header, *rows))
    return "\n".join([first, "|---" * len(header) + "|", *others])


def command() -> str:
    """This process, as it is typed in the repository's root."""
    script, *arguments = sys.argv
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *arguments])


def publish(
    name: str,
    title: str,
    hardware: str,
    text: str,
    data: dict[str, Any],
    report: Path = RESULTS,
    made_with: dict[str, str] | None = None,
) -> Path:
    """Write ``report/name_hardware_date.md`` and ``.json``, both with the command and the versions.

    Args:
        name: of the script.
        title: the text's heading; hardware and date follow it.
        hardware: what was measured on, such as ``"2 CPU cores"``.
        text: Markdown.
        data: the same as numbers, and what they depend on.
        report: the folder.
        made_with: versions, where the numbers are from another process than this one.

    Returns:
        the path of the text.
    """
    today = date.today().isoformat()
    path = report / f"{name}_{hardware.replace(' ', '-')}_{today}.md"
    about = {"hardware": hardware, "date": today, "command": command(), "versions": made_with or versions()}
    heading = f"# {title}, {hardware}, {today}\n\n`{about['command']}`"
    write_whole(path, f"{heading}\n\n{text}\n\nVersions: `{json.dumps(about['versions'])}`\n")
    write_whole(path.with_name(f"{path.stem}.json"), json.dumps(about | data, indent=1, ensure_ascii=False) + "\n")
    return path
