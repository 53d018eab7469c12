from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runbook import paths
from runbook.engine import foreign_text
from runbook.engine.progress import Terminal
from runbook.engine.step import Result, Step

ORDER = "##vso[task.setvariable variable=stage]prod"
HIDDEN = [
    ORDER,
    f"first\n{ORDER}",
    f"first\r{ORDER}",
    f"first\x85{ORDER}",
    f"first\u2028{ORDER}",
    ORDER.upper(),
    ORDER.replace("##", "#\x00#"),
    ORDER.replace("##", "#\u200b#"),
    ORDER.replace("##", "##\x1b[0m"),
    ORDER.replace("##", "#\x1b]0;title\x07#"),
    ORDER.replace("##", "####"),
    "\x1b[2J\x1b[1;1H##[section]All green",
    "##[endgroup]",
]


def orders(shown: str) -> list[str]:
    """Return the lines that the agent of Azure DevOps would obey or format."""
    return [line for line in shown.splitlines() if "##vso[" in line.lower() or line.lstrip().startswith("##[")]


def controls(shown: str) -> list[str]:
    return [character for character in shown if not character.isprintable() and character not in "\n\t"]


@pytest.mark.parametrize("foreign", HIDDEN)
def test_text_from_elsewhere_gives_no_orders(foreign: str) -> None:
    shown = foreign_text.shown(foreign)
    assert orders(shown) == [] and controls(shown) == []
    assert "\n" not in foreign_text.on_one_line(foreign)


@pytest.mark.parametrize(
    "ordinary", ["p95: 412.7 ms, expected ≤ 150\n\tnext line", "## Heading", "a # b ## c", "grün ✓ 日本"]
)
def test_ordinary_text_is_shown_as_it_is(ordinary: str) -> None:
    assert foreign_text.shown(ordinary) == ordinary


def failed(message: str) -> Result:
    error: dict[str, str | None] = {"class": f"Bad{message}", "message": message, "cell": f"cell{message}"}
    return Result("r1", "20_train", None, "local", "Train", "failed", None, 1.0, 1, 2, error, [], message, {}, {})


@pytest.mark.parametrize("foreign", HIDDEN)
def test_a_failed_step_in_a_pipeline_gives_only_the_runners_own_orders(
    foreign: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_BUILD", "True")
    with Terminal() as terminal:
        terminal.run_started("r1", 1, Path(f"/{foreign}"))
        terminal.step_started(1, Step("20_train", None))
        terminal.cell_started(1, 2, f"cell{foreign}")
        terminal.step_ended(1, failed(foreign), Path(f"/{foreign}"))
    out = capsys.readouterr().out
    group, end, issue = orders(out)
    assert (group, end) == ("##[group]papermill 20_train", "##[endgroup]")
    assert issue.startswith("##vso[task.logissue type=error]20_train: Bad") and issue.lower().count("##vso[") == 1
    assert controls(out) == []


def test_the_error_of_a_command_gives_no_orders(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("runbook")
    artifact = tmp_path / f"a\n{ORDER}"
    artifact.mkdir()
    words = ["step", "60_deploy", "--stage", "dev", "--from", str(artifact)]
    done = subprocess.run([command, *words], capture_output=True, text=True, timeout=120, cwd=paths.ROOT)
    assert done.returncode == 1 and "task.setvariable" in done.stderr
    assert orders(done.stdout + done.stderr) == []


@pytest.mark.parametrize("how", ["raise ValueError(foreign)", "logging.getLogger('x').error(foreign)"])
def test_a_traceback_and_the_log_of_a_library_give_no_orders(how: str, tmp_path: Path) -> None:
    source = (
        "import logging, sys; from runbook import cli, lint\n"
        f"foreign = 'a\\n' + {ORDER!r} + ' said-in-secret'\n"
        f"def breaks():\n    {how}\n    return []\n"
        "lint.problems = breaks; sys.argv = ['runbook', 'check']; cli.main()"
    )
    environment = {**os.environ, "SOME_SECRET": "said-in-secret"}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, env=environment)
    assert "task.setvariable" in done.stderr and orders(done.stdout + done.stderr) == []
    assert "raise" not in how or ("Traceback" in done.stderr and "said-in-secret" not in done.stderr)


def test_a_formatter_shows_a_record_as_text_from_elsewhere() -> None:
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, f"a\n{ORDER}", None, None)
    assert orders(foreign_text.Formatter("%(message)s").format(record)) == []
