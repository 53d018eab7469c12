"""Microsoft's own language service on our pipelines: what an editor with its extension would underline."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from runbook import paths

HERE = Path(__file__).resolve().parent
SCHEMA = "RUNBOOK_AZURE_PIPELINES_SCHEMA"


@pytest.fixture(scope="module")
def diagnostics() -> dict[str, list[str]]:
    """Returns what the language service says of every pipeline, template and the known-bad file, by path."""
    schema = os.environ.get(SCHEMA)
    if not schema:
        pytest.skip(
            f"{SCHEMA} is not set: expected the path of service-schema.json of microsoft/azure-pipelines-vscode"
        )
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("node and npm are not on PATH: Microsoft's language service is written for them")
    files = [*sorted((paths.ROOT / "pipelines").rglob("*.yml")), HERE / "known_bad.yml"]
    command = ["node", str(HERE / "language_service.js"), schema, *map(str, files)]
    done = subprocess.run(
        command, env={**os.environ, "NODE_PATH": str(packages())}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[str]] = json.loads(done.stdout)
    return answer


def packages() -> Path:
    """Return node_modules with the pinned packages, installed once outside the checkout."""
    pinned = HERE / "package.json"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runbook"
    folder = cache / f"azure-pipelines-language-service-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=cache))
        shutil.copy(pinned, fresh)
        command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"npm could not install {pinned}:\n{done.stdout}{done.stderr}"
        try:
            fresh.rename(folder)
        except OSError:  # another test run was faster
            shutil.rmtree(fresh)
    return folder / "node_modules"


def test_microsoft_s_language_service_finds_nothing_wrong_with_any_pipeline(diagnostics: dict[str, list[str]]) -> None:
    ours = {path: found for path, found in diagnostics.items() if not path.endswith("known_bad.yml")}
    assert len(ours) >= 7
    assert {path: found for path, found in ours.items() if found} == {}


def test_the_language_service_can_fail(diagnostics: dict[str, list[str]]) -> None:
    (found,) = (found for path, found in diagnostics.items() if path.endswith("known_bad.yml"))
    assert len(found) >= 10
    lines = {int(message.split(":")[0]) for message in found}
    text = (HERE / "known_bad.yml").read_text(encoding="utf-8").splitlines()
    unnoticed = [line for number, line in enumerate(text, 1) if "   # " in line and number not in lines]
    assert unnoticed == []
