"""A place in which the runbook runs: a home, a reports folder, and the commands run with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook import paths

COMMAND = Path(sys.executable).with_name("runbook")
SHORT = ["-f", str(paths.PARAMS / "test.yml")]


@dataclass
class Place:
    """A home, a reports folder, and the commands run with them."""

    home: Path
    reports: Path
    first: subprocess.CompletedProcess[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, wanted: int = 0, cwd: Path | None = None, seconds: int = 500
    ) -> subprocess.CompletedProcess[str]:
        """Run one runbook command without a terminal and without standard input, and check its exit code."""
        environment = {
            k: v for k, v in os.environ.items() if k not in ("RUNBOOK_KERNEL_LOCK", "BUILD_BUILDID")
        } | self.environment
        environment |= {"RUNBOOK_HOME": str(self.home), "RUNBOOK_REPORTS": str(self.reports)}
        done = subprocess.run(
            [str(COMMAND), *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == wanted, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def endpoint(self, stage: str) -> dict[str, Any]:
        """Return what `runbook endpoint --json` says."""
        found: dict[str, Any] = json.loads(self.run("endpoint", stage, "--json").stdout)
        return found

    def latest(self) -> Path:
        """Return the folder of the newest run."""
        return self.reports / (self.reports / "latest.txt").read_text().strip()

    def post(self, stage: str, document: Any, key: str | None = "right") -> tuple[int, Any]:
        """Send one request as a caller would; returns status and document."""
        found = self.endpoint(stage)
        request = urllib.request.Request(found["scoring_uri"], json.dumps(document).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", f"Bearer {found['key'] if key == 'right' else key}")
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
