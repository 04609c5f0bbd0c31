"""``plait doctor``: could the data be the cause?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from plait.cli.parse import Verb, folder, pairs

if TYPE_CHECKING:
    from rich.table import Table

    from plait.diagnose.doctor.examine import Diagnosis

STYLES = {"error": "bold red", "warning": "yellow", "ok": "green", "skipped": "dim"}


@dataclass(frozen=True)
class Doctor(Verb):
    """Look in a dataset for faults that a loss does not show: signs, delays, units, cameras, times, words."""

    dataset: Positional[str]
    """A LeRobotDataset v3.0, written by plait or by lerobot."""
    env: str | None = None
    """tabletop, metaworld, or a gymnasium id; left out, the one that plait recorded the dataset in."""
    env_args: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the environment, beside those of the recording, such as family=pick."""
    checkpoint: str | None = None
    """A policy to compare with: its names, its normalisation, its words."""
    json: str | None = None
    """File for everything that was found, with the numbers."""

    def run(self) -> None:
        from rich.console import Console

        from plait import checkpoint
        from plait.diagnose.doctor.examine import examine
        from plait.files import json_text, write_whole

        if self.json is not None:
            folder(str(Path(self.json).parent), "--json")
            if Path(self.json).is_dir():
                raise ValueError(f"--json {self.json}: that is a folder; give a file.")
        policy = None if self.checkpoint is None else checkpoint.load(self.checkpoint)
        found = examine(self.dataset, self.env, pairs(self.env_args, "--env-args"), policy)
        console = Console(highlight=False)
        console.print(f"{self.dataset}: {found.verdict}", style="bold", markup=False, soft_wrap=True)
        console.print(looked_at(found), style="dim", soft_wrap=True)
        console.print(table(found))
        if self.json is not None:
            write_whole(Path(self.json), json_text(found.as_json()))
        if found.errors:
            raise SystemExit(1)


def looked_at(found: "Diagnosis") -> str:
    """What the verdict rests on."""
    look = found.looked_at
    return (
        f"all numbers of {look['episodes']} episodes ({look['frames']} frames), pictures of "
        f"{look['episodes_with_pictures']} episodes, {look['scenes']} scenes laid out again, {look['replays']} replayed"
    )


def table(found: "Diagnosis") -> "Table":
    """One row per finding, the worst first."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in sorted(found.findings, key=lambda finding: list(STYLES).index(finding.severity)):
        rows.add_row(Text(finding.severity, STYLES[finding.severity]), finding.check, Text(finding.sentence))
    return rows
