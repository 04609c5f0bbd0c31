"""The report: every question's answer on one page, and the numbers beside it.

DIR/report.html      self-contained: no script, no network, no second file
DIR/diagnose.json    settings, and of each answer the verdict and all numbers
DIR/parts/           what stands under each verdict, so that a later call can put the page together again
DIR/eval/NAME/       each evaluation: eval.json, and films of some
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import plait
from plait import envs
from plait.config import unknown
from plait.data.layout import INFO
from plait.diagnose import attention, costs, data, embeddings, listens, modalities, page, works
from plait.diagnose.subject import Answer, Subject
from plait.evaluate.pool import employed
from plait.evaluate.protocol import fitting
from plait.files import json_text, locked, read_json, write_whole

QUESTIONS: dict[str, Callable[[Subject], Answer]] = {
    "works": works.ask,
    "listens": listens.ask,
    "modalities": modalities.ask,
    "attention": attention.ask,
    "embeddings": embeddings.ask,
    "costs": costs.ask,
    "data": data.ask,
}
FAST, FEW = ("works", "listens", "attention", "costs"), 50  # the questions of the short report, and its episodes
PAGE, NUMBERS = "report.html", "diagnose.json"
Answers = dict[str, Answer]


def diagnose(
    subject: Subject, out: Path | str, questions: Sequence[str] = tuple(QUESTIONS)
) -> Iterator[tuple[str, Answer]]:
    """Ask the questions and yield each with its answer; after each, the report in ``out`` is whole and has it.

    What an earlier call with the same settings has answered stays in the report and is not asked again. Other
    settings begin a new report.

    Raises:
        ValueError: no such question, or one that cannot be answered (see ``refuse_unanswerable``), ``out``
            is a dataset, or another process writes into it.
        KeyboardInterrupt: interrupted; the report has what is answered and names what is missing.
    """
    for name in questions:
        if name not in QUESTIONS:
            raise unknown("question", name, QUESTIONS)
    if (Path(out) / INFO).exists():
        raise ValueError(f"{out}: this is a dataset, and no place for a report; say --out another folder")
    with locked(Path(out)):
        yield from report(subject, Path(out), questions)


def report(
    subject: Subject, folder: Path, questions: Sequence[str], more: Callable[[Answers], list[str]] = lambda _: []
) -> Iterator[tuple[str, Answer]]:
    """``diagnose`` in a folder that the caller has locked. ``more``: sections behind the answers that there are."""
    settings = settings_of(subject)
    answers = answered(folder, settings)

    def write() -> None:
        missing = [name for name in questions if name not in answers]
        _write(folder, settings, answers, missing, more(answers))

    with employed(subject.workers) as workers:
        subject = replace(subject, folder=folder, workers=workers)  # which has read no dataset yet, as it is now
        refuse_unanswerable(subject, [name for name in questions if name not in answers])
        for name in filter(questions.__contains__, QUESTIONS):
            if name not in answers:
                start = time.perf_counter()
                try:
                    answers[name] = QUESTIONS[name](subject)
                except KeyboardInterrupt:  # the report that lies there may be of other settings, or none may
                    write()
                    raise
                answers[name] = replace(answers[name], seconds=round(time.perf_counter() - start, 3))
            write()
            yield name, answers[name]


def refuse_unanswerable(subject: Subject, questions: Sequence[str]) -> None:
    """Say before the first question what stands in the way of the last one.

    Raises:
        ValueError: no dataset that can be read, for the question of the data; or the policy does not fit the
            environment, for any other.
    """
    if "data" in questions:
        _ = subject.demonstrations  # opens it
    if set(questions) - {"data"}:
        with closing(envs.make(subject.env, **subject.env_args)) as env:
            fitting(subject.policy, env, subject.env)


def settings_of(subject: Subject) -> dict[str, Any]:
    """What the answers depend on."""
    names = ("env", "env_args", "checkpoint", "episodes", "contrast", "seed")
    known = {name: getattr(subject, name) for name in names}
    known["dataset"] = None if subject.dataset is None else {"path": str(subject.dataset), **_state(subject.dataset)}
    return json.loads(json.dumps({**known, "device": str(subject.policy.device), "plait": plait.__version__}))


def _state(dataset: Path) -> dict[str, int]:
    """What tells that any file of the dataset was written again, pictures and words included, without reading them."""
    files = sorted(path for path in dataset.rglob("*") if path.is_file())
    found = [(path.relative_to(dataset).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return {"files": len(files), "crc32": zlib.crc32(repr(found).encode())}


def answered(folder: Path, settings: dict[str, Any]) -> Answers:
    """What an earlier call with the same settings has found; with another dataset, what does not depend on it."""
    path = folder / NUMBERS
    found = read_json(path) if path.exists() else {"settings": {}, "answers": {}}
    changed = {name for name, value in settings.items() if found["settings"].get(name) != value}
    if changed - {"dataset"}:
        return {}
    read = lambda name: (_parts(folder, name).read_text("utf-8"),)  # noqa: E731
    kept = [name for name in found["answers"] if _parts(folder, name).exists() and not (name == "data" and changed)]
    return {name: Answer(**found["answers"][name], parts=read(name)) for name in kept}


def document(settings: dict[str, Any], answers: Answers, missing: Sequence[str] = (), more: Sequence[str] = ()) -> str:
    """The page. ``missing``: questions that were asked and have no answer yet; ``more``: sections that follow."""
    ordered = {name: answers[name] for name in QUESTIONS if name in answers}
    worst = next((answer for answer in ordered.values() if answer.tone == "bad"), next(iter(ordered.values()), None))
    entries = [page.Entry(answer.question, answer.verdict, answer.tone, name) for name, answer in ordered.items()]
    entries += [page.Entry(name, "Not finished; the same command goes on.") for name in missing]
    sections = [
        page.section(answer.question, page.verdict(answer.verdict, answer.tone), *answer.parts, anchor=name)
        for name, answer in ordered.items()
    ]
    headline = f"{worst.verdict.split('. ')[0].removesuffix('.')}." if worst else "Nothing is answered yet."
    lead = _lead(settings, [*ordered, *missing])
    return page.page("plait diagnose", headline, lead, [page.contents(entries), *sections, *more])


def _lead(settings: dict[str, Any], names: Sequence[str]) -> str:
    told = f"Checkpoint {settings['checkpoint']}, plait {settings['plait']}, {settings['device']}."
    if set(names) == {"data"}:
        return f"Examined: the dataset `{settings['dataset']['path']}`, and whether the policy fits it. {told}"
    values = {name: value if isinstance(value, list) else [value] for name, value in settings["env_args"].items()}
    arguments = "".join(f", {name} = {' '.join(map(str, value))}" for name, value in values.items())
    return (
        f"Examined in {settings['episodes']} scenes of {settings['env']}{arguments} that training never saw, judged by "
        f"the simulator. {told}"
    )


def _write(
    folder: Path, settings: dict[str, Any], answers: Answers, missing: Sequence[str], more: Sequence[str]
) -> None:
    """The parts first: what ``diagnose.json`` names is there."""
    told = {}
    for name, answer in answers.items():
        write_whole(_parts(folder, name), "".join(answer.parts))
        told[name] = {key: value for key, value in asdict(answer).items() if key != "parts"}
    numbers = {"settings": settings, "missing": missing, "answers": told}
    write_whole(folder / NUMBERS, json_text(numbers))
    write_whole(folder / PAGE, document(settings, answers, missing, more))


def _parts(folder: Path, name: str) -> Path:
    return folder / "parts" / f"{name}.html"
