"""The outcome of functional cases: each reply judged, as a table for the reader and a JUnit file of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from runbook import paths
from runbook.platform.base import Stage
from runbook.testing import scoring_client
from runbook.testing.cases import TOLERANCE, Case
from runbook.testing.load import REQUEST_ID
from runbook.testing.scoring_client import SERVICE_REQUEST_ID, Answer, Client, Reply

if TYPE_CHECKING:
    import pandas as pd

STEP = "70_functional_test"


@dataclass(frozen=True)
class Outcome:
    """One case after it was sent: wish and finding in words, and the problems; without problems it passed.

    ``ids`` are the headers by which the request can be found again: ours, and the one that the service gave it.
    """

    case: Case
    wanted: str
    found: str
    seconds: float
    problems: tuple[str, ...]
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether everything the case expected came back."""
        return not self.problems


def run(client: Client, cases: Iterable[Case], model_version: str) -> list[Outcome]:
    """Send every case, one after the other, and return the outcomes in order."""
    return [judge(case, client.send(case.request), client, model_version) for case in cases]


def judge(case: Case, reply: Reply, client: Client, model_version: str) -> Outcome:
    """Compare one reply with what its case wants on an endpoint of the client's profile."""
    status = scoring_client.expected_status(case.status, case.by, client.endpoint.profile)
    problems: list[str] = []
    if reply.status != status:
        problems.append(reply.problem or f"status {reply.status}, expected {status}")
    elif case.status == 200:
        problems += _answer_problems(case, reply, model_version)
    else:
        problems += _refusal_problems(case, reply, status)
    if case.by == "score.py" and reply.status is not None and not reply.answers_its_request:
        problems.append(f"{REQUEST_ID} {reply.headers.get(REQUEST_ID)!r} is not the one that was sent")
    return Outcome(case, _wish(case, status), _finding(reply), reply.seconds, tuple(problems), _ids(reply))


def table(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Return a row per outcome: group, case, sent, expected, found, seconds, verdict (with what is wrong)."""
    import pandas as pd

    rows = [
        (o.case.group, o.case.name, _short(o.case.request.body), o.wanted, o.found, round(o.seconds, 3), _verdict(o))
        for o in outcomes
    ]
    return pd.DataFrame(rows, columns=["group", "case", "sent", "wanted", "found", "seconds", "verdict"])


def overview(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    """Return a row per group, in the order sent: group, cases, passed, failed."""
    import pandas as pd

    groups: dict[str, list[bool]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.case.group, []).append(outcome.passed)
    rows = [(group, len(held), sum(held), len(held) - sum(held)) for group, held in groups.items()]
    return pd.DataFrame(rows, columns=["group", "cases", "passed", "failed"])


def passed_by_group(outcomes: Iterable[Outcome]) -> Counter[str]:
    """Return how many cases of each group passed; a group that was not sent has none."""
    return Counter(o.case.group for o in outcomes if o.passed)


def folder(run_id: str, stage: Stage) -> Path:
    """Return the folder of this step's evidence, where the JUnit file and the downloaded model are left."""
    return paths.step_folder(run_id, STEP, stage)


def write_junit(outcomes: Sequence[Outcome], run_id: str, stage: Stage) -> Path:
    """Write functional.junit.xml into the step's folder and return its path.

    Each case has its request ids as properties; a failure's text holds what was sent.
    """
    path, suite = folder(run_id, stage) / "functional.junit.xml", f"functional-{stage}"
    failed = sum(not o.passed for o in outcomes)
    seconds = f"{sum(o.seconds for o in outcomes):.3f}"
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(outcomes)), failures=str(failed), time=seconds)
    for outcome in outcomes:
        name = _printable(outcome.case.name)
        group = f"{suite}.{outcome.case.group}"
        case = ElementTree.SubElement(root, "testcase", classname=group, name=name, time=f"{outcome.seconds:.3f}")
        properties = ElementTree.SubElement(case, "properties")
        for header, value in outcome.ids.items():
            ElementTree.SubElement(properties, "property", name=header, value=_printable(value))
        if not outcome.passed:
            failure = ElementTree.SubElement(case, "failure", message=_printable("; ".join(outcome.problems)))
            failure.text = f"sent {_short(outcome.case.request.body)}\nexpected {outcome.wanted}\nfound {outcome.found}"
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    return path


def _ids(reply: Reply) -> dict[str, str]:
    given = reply.headers.get(SERVICE_REQUEST_ID)
    return {REQUEST_ID: reply.request_id} | ({SERVICE_REQUEST_ID: given} if given else {})


def _answer_problems(case: Case, reply: Reply, model_version: str) -> list[str]:
    try:
        found = scoring_client.answers(reply.content, case.rows, model_version)
    except ValueError as error:
        return [f"not the expected answer: {error}"]
    return [*_differences(case, found)][:3]


def _differences(case: Case, found: Sequence[Answer]) -> Iterable[str]:
    for row, answer in enumerate(found):
        if answer.prediction != int(answer.probability >= 0.5):
            yield f"row {row}: prediction {answer.prediction} with probability {answer.probability:.6f}"
        if case.predictions and answer.prediction != case.predictions[row]:
            yield f"row {row}: prediction {answer.prediction}, expected {case.predictions[row]}"
        if case.probabilities and abs(answer.probability - case.probabilities[row]) > TOLERANCE:
            yield f"row {row}: probability {answer.probability:.9f}, expected {case.probabilities[row]:.9f}"


def _refusal_problems(case: Case, reply: Reply, status: int) -> list[str]:
    problems = []
    original = reply.headers.get(scoring_client.ORIGINAL_STATUS)
    if status == 424 and original != str(case.status):
        problems.append(f"header {scoring_client.ORIGINAL_STATUS} {original!r}, expected '{case.status}'")
    if case.by == "score.py":
        error = _error(reply.document)
        if error is None:
            problems.append("the body names no error with code, field and message")
        elif error["field"] != case.field:
            problems.append(f"field {error['field']!r}, expected {case.field!r}")
    return problems


def _error(document: Any) -> Mapping[str, Any] | None:
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) and set(error) == {"code", "field", "message"} else None


def _wish(case: Case, status: int) -> str:
    words = [str(status)] if status == case.status else [f"{status} for {case.status}"]
    if case.field:
        words.append(f"field {case.field}")
    if case.rows is not None:
        words.append(f"{case.rows:,} answers")
    words += [f"prediction {p}" for p in case.predictions[:1]]
    if case.rows is None:
        words += [f"probability {p:.6f}" for p in case.probabilities]
    return ", ".join(words)


def _finding(reply: Reply) -> str:
    if reply.status is None:
        return reply.problem
    original = reply.headers.get(scoring_client.ORIGINAL_STATUS)
    words = [f"{reply.status} for {original}" if original else str(reply.status)]
    document, error = reply.document, _error(reply.document)
    if error:
        words.append(f"field {error['field']}: {error['message']}" if error["field"] else str(error["message"]))
    elif isinstance(document, list):
        words.append(f"{len(document):,} answers")
    elif isinstance(document, dict) and "prediction" in document:
        words.append(f"prediction {document['prediction']}, probability {document.get('probability')}")
    else:
        words.append(_short(reply.content))
    return _printable(", ".join(words))[:200]


def _verdict(outcome: Outcome) -> str:
    return "passed" if outcome.passed else _printable("FAILED: " + "; ".join(outcome.problems))[:300]


def _short(content: bytes) -> str:
    text = _printable(content[:120].decode("utf-8", "backslashreplace"))
    return text if len(content) <= 120 else f"{text}... ({len(content):,} bytes)"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
