"""The types that check our JSON and the JSON Schema files published for outsiders say the same."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from runbook import documents, paths

SAMPLE = paths.ROOT / "reports" / "sample"
EXAMPLES = {
    "decision": SAMPLE / "metadata" / "decision.json",
    "handoff": SAMPLE / "60_deploy-dev" / "handoff.json",
    "manifest": SAMPLE / "manifest.json",
    "model": SAMPLE / "metadata" / "model.json",
    "result": SAMPLE / "20_train" / "result.json",
    "run": SAMPLE / "metadata" / "run.json",
}
# What the sample leaves out, so that every branch of a schema is met.
MORE: dict[str, dict[str, Any]] = {
    "decision": {
        "criteria": [
            {
                "name": "a",
                "wanted": "b",
                "found": 0.4,
                "interval": [0.3, 0.5],
                "verdict": "unsure",
                "smallest_difference": 0.1,
            }
        ],
        "candidate": {},
        "champion": None,
    },
    "result": {"error": {"class": "E", "message": "m", "cell": None}, "commit": None, "dirty": None},
    "manifest": {
        "params_files": ["a"],
        "rehearsal": False,
        "given": {"20_train": [{"name": "a", "value": 1, "plain": None, "source": "-p"}]},
        "overrides": ["a=1"],
        "endpoints_problem": None,
        "unmasked": ["a"],
    },
    "run": {"parent_run_id": None, "run_number": None, "data_container_id": None},
}
# Maps whose keys no schema names.
OPEN = {"values", "files", "parameters", "inputs", "metrics", "tags"}
# 2.0 is missing here: JSON Schema calls it an integer, which our types refuse.
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**20, "", "x", "1.0", "1.1", "2.0", "7", "dev", "local", "passed", "not_needed",
    "promote", "Completed", "titanic:3", "20_train", "0" * 64, "0" * 63, [], [1], [1, 2], [1, 2, 3], ["a"], [{}], {}, {"a": 1},
]  # fmt: skip


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(EXAMPLES[name].read_text(encoding="utf-8"))
    small: dict[str, Any] = shortened({**document, **MORE.get(name, {})})
    return small


def shortened(value: Any) -> Any:
    """Return a value with at most two entries in each list and one in each map that is no document of fixed fields."""
    if isinstance(value, list):
        return [shortened(child) for child in value[:2]]
    if isinstance(value, dict):
        return {key: shortened(child) for key, child in value.items() if key not in OPEN} | {
            key: dict(list(value[key].items())[:1]) for key in OPEN & value.keys()
        }
    return value


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    path = paths.SCHEMAS / f"{name}.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def fits(document: Any, name: str) -> bool:
    try:
        msgspec.convert(document, documents.TYPES[name])
    except msgspec.ValidationError:
        return False
    return True


def changed(value: Any) -> Iterator[None]:
    """Change one place below ``value`` after the other, each in every way, and yield after each change."""
    if isinstance(value, dict):
        value["strange"] = 1
        yield
        del value["strange"]
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        before = value[key]
        for other in VALUES:
            value[key] = other
            yield
        value[key] = before
        yield from changed(before)
        if isinstance(value, dict):
            del value[key]
            yield
            value[key] = before


def test_every_published_schema_has_a_type_and_every_type_a_schema() -> None:
    assert {path.name.removesuffix(".schema.json") for path in paths.SCHEMAS.iterdir()} == set(documents.TYPES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_type_and_the_schema_give_one_verdict_on_every_changed_document(name: str) -> None:
    assert fits(example(name), name) and validator(name).is_valid(example(name))
    verdicts = set()
    document = example(name)
    for _ in changed(document):
        expected = validator(name).is_valid(document)
        assert fits(document, name) == expected, document
        verdicts.add(expected)
    assert verdicts == {True, False}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_hold_every_field_that_the_type_knows(name: str) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(documents.TYPES[name])}
    schema = json.loads((paths.SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert fields == set(schema["properties"]) == fields & set(example(name))


HANDOFF = "from runbook import handoff, check; handoff.save('20_train', 'r1', rows=3); handoff.load('20_train', 'r1')"
LARGE = {
    "jsonschema",
    "nbformat",
    "papermill",
    "nbconvert",
    "bs4",
    "mlflow",
    "azure",
    "pandas",
    "sklearn",
    "matplotlib",
}


@pytest.mark.parametrize(
    ("work", "strange"),
    [
        (["-c", HANDOFF], LARGE | {"yaml", "numpy"}),
        (["-m", "runbook.cli", "--help"], LARGE | {"msgspec", "yaml", "numpy", "asyncio"}),
        (["-m", "runbook.cli", "plan"], LARGE | {"numpy"}),
        (["-m", "runbook.cli", "status"], LARGE | {"numpy"}),
    ],
    ids=["handoff", "help", "plan", "status"],
)
def test_only_what_needs_a_large_library_imports_it(work: list[str], strange: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *work], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    found = {line.split(".")[0] for line in lines}
    assert "runbook" in found
    assert found & strange == set()
