from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from runbook import paths
from runbook.engine import text

CURL = '#!/bin/bash\nprintf "%s\\n" "$@"\n'
RUNBOOK = '#!/bin/bash\necho "key-of-$2"\n'


@pytest.mark.parametrize("name", ["plain", "it's here", 'a "quoted" $HOME', "back\\slash `id`"])
def test_the_curl_line_can_be_pasted_whatever_the_path_of_the_checkout_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, curl = tmp_path / name / ".venv" / "bin" / "runbook", tmp_path / "curl"
    command.parent.mkdir(parents=True)
    for path, source in ((command, RUNBOOK), (curl, CURL)):
        path.write_text(source)
        path.chmod(0o755)
    monkeypatch.setattr(paths, "ROOT", tmp_path / name)
    line = text._curl("dev", "local", "http://127.0.0.1:8601/score?a=1&b='2'")
    pasted = f"PATH={shlex.quote(str(tmp_path))}:$PATH\n{line}"
    done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:4] == [
        "http://127.0.0.1:8601/score?a=1&b='2'",
        "-H",
        "Authorization: Bearer key-of-dev",
    ]
