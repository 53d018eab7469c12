"""CI's result as CD takes it: three files that must agree with one another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recorded

from runbook import handoff, paths
from runbook.engine import ci_artifact, manifest
from runbook.errors import RunError

OTHER = "b" * 64
Documents = dict[str, Any]


def metadata(word: str = "promote") -> Path:
    """Write CI's result with everything that 20, 30 and 40 write, and return its folder."""
    recorded.metadata("ci", word)
    change(lambda d: d["decision"].update(candidate={"sha256": recorded.HEX, "training_key": recorded.HEX}))
    if word == "hold":
        served = {"name": "Titanic", "version": "11", "sha256": OTHER}
        change(lambda d: d["decision"].update(champion=served))
        change(lambda d: d["model"].update(version="11", modelId="Titanic:11", sha256=OTHER, training_key=OTHER))
    return recorded.folder("ci")


def change(edit: Callable[[Documents], object]) -> None:
    folder = recorded.folder("ci") / "metadata"
    found = {name: json.loads((folder / f"{name}.json").read_text()) for name in handoff.METADATA}
    edit(found)
    for name, document in found.items():
        (folder / f"{name}.json").write_text(json.dumps(document))


@pytest.mark.parametrize("word", ["promote", "hold"])
def test_a_result_that_agrees_with_itself_is_taken(word: str) -> None:
    assert ci_artifact.take(str(metadata(word)), "r2") == "ci"
    assert handoff.load_metadata("decision", "r2")["decision"] == word


@pytest.mark.parametrize(
    ("word", "edit", "says"),
    [
        ("promote", lambda d: d["decision"]["criteria"][1].update(verdict="failed"), ["promote", "minus the champion's"]),
        ("promote", lambda d: d["run"]["model"].update(sha256=OTHER), [f"{OTHER} in run.json", f"{recorded.HEX} in model.json"]),
        ("promote", lambda d: d["model"].update(sha256=OTHER), [f"{recorded.HEX} in run.json", f"{OTHER} in model.json"]),
        ("promote", lambda d: d["model"].update(training_key=OTHER), ["training_key", f"{OTHER} in model.json"]),
        ("promote", lambda d: d["decision"]["candidate"].update(sha256=OTHER), [f"{OTHER} in decision.json", recorded.HEX]),
        ("promote", lambda d: d["decision"]["candidate"].update(training_key=OTHER), [f"{OTHER} in decision.json"]),
        ("promote", lambda d: d["model"].update(new=False), ["decision.json says promote", "not new"]),
        ("promote", lambda d: d["model"].update(version="13"), ["Titanic:12", "version 13"]),
        ("hold", lambda d: d["model"].update(new=True), ["decision.json says hold", "is new"]),
        ("hold", lambda d: d["model"].update(sha256=recorded.HEX), [f"{OTHER} in decision.json", recorded.HEX]),
        ("hold", lambda d: d["model"].update(version="12", modelId="Titanic:12"), ["11 in decision.json", "12 in model.json"]),
        ("hold", lambda d: d["decision"].update(decision="promote"), ["promote", f"{OTHER} in model.json"]),
    ],
)  # fmt: skip
def test_a_result_whose_files_say_different_things_is_refused_with_both(
    word: str, edit: Callable[[Documents], object], says: list[str]
) -> None:
    folder = metadata(word)
    change(edit)
    with pytest.raises(RunError) as refused:
        ci_artifact.take(str(folder), "r2")
    assert all(words in str(refused.value) for words in says), refused.value
    assert not (paths.run_folder("r2") / "metadata").exists()


def test_a_result_that_was_changed_after_its_run_is_refused() -> None:
    folder = recorded.whole("ci")
    this = manifest.load("ci")
    this.seal()
    this.save()
    assert ci_artifact.take("ci", "r2") == "ci"
    change(lambda d: d["decision"].update(reason="because I say so"))
    with pytest.raises(RunError, match=r"metadata/decision.json was changed after the run"):
        ci_artifact.take(str(folder), "r3")
