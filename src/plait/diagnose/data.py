"""Could the data be the cause? What the doctor finds in the dataset that the policy was trained on."""

from copy import deepcopy

from plait.diagnose import page
from plait.diagnose.doctor.examine import Diagnosis, examine
from plait.diagnose.doctor.finding import Finding
from plait.diagnose.subject import Answer, Subject, Tone

QUESTION = "Could the data be the cause?"
WORST_FIRST = ("error", "warning", "ok", "skipped")


def ask(subject: Subject) -> Answer:
    """Examine the subject's dataset, with the simulator where it can be and with the policy.

    The simulator is the one that it was recorded in; the subject's, where the dataset does not say which that was.

    Raises:
        ValueError: the subject has no dataset.
    """
    dataset = subject.demonstrations
    told = "env" in dataset.provenance().get("arguments", {})  # other arguments would be other scenes
    env, env_args = (None, None) if told else (subject.env, subject.env_args)
    found = examine(dataset, env, env_args, policy=deepcopy(subject.policy).cpu())
    return Answer(QUESTION, *judge(found), found.as_json(), (_table(found),))


def judge(found: Diagnosis) -> tuple[str, Tone]:
    """The verdict, with the first error where there is one."""
    first = next((finding.sentence for finding in found.findings if finding.severity == "error"), "")
    look = found.looked_at
    seen = f"{look['episodes']} episodes read, {look['replays']} of them replayed in the simulator"
    text = f"In the data, {found.verdict} ({seen})."
    return (f"{text} The first: {first}.", "bad") if first else (text, "good")


def _table(found: Diagnosis) -> str:
    place = lambda finding: WORST_FIRST.index(finding.severity)  # noqa: E731
    rows = [_row(finding) for finding in sorted(found.findings, key=place)]
    return page.table("Every check, the worst first", ("check", "", "what was found"), rows, sentences=True)


def _row(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.severity, finding.sentence
