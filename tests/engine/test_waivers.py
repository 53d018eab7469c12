"""params/gate.yml: a looser limit needs a reason, an owner and a last day, and is shown wherever changed values are."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook import paths
from runbook.engine import params
from runbook.errors import ParamsError
from runbook.lint import notebooks

EVALUATE = paths.NOTEBOOKS / "30_evaluate.ipynb"
TODAY = dt.datetime.now(dt.UTC).date()
TOMORROW, YESTERDAY = TODAY + dt.timedelta(days=1), TODAY - dt.timedelta(days=1)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the gate.yml of a params folder of this test."""
    for path in paths.PARAMS.glob("*.yml"):
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    return tmp_path / "gate.yml"


def test_gate_lies_between_base_and_the_target(gate: Path) -> None:
    gate.write_text("holdout_min_accuracy: 0.8\nmax_p99_ms: 100.0\n")
    (gate.parent / "base.yml").write_text("project: titanic\nholdout_min_accuracy: 0.76\nmax_p99_ms: 120.0\n")
    (gate.parent / "local.yml").write_text("target: local\nmax_p99_ms: 90.0\n")
    values = params.layers("local", None)
    assert (values["holdout_min_accuracy"], values["max_p99_ms"]) == (0.8, 90.0)


@pytest.mark.parametrize(
    "line",
    [
        "holdout_min_roc_auc: 0.7",
        "holdout_max_log_loss: 0.9",
        "margin_log_loss: 0.2",
        "must_be_shown: []",
        "max_p99_ms: 50000.0",
    ],
)
@pytest.mark.parametrize(
    "comment", ["", "  # a reason", "  # a reason; Ada", "  # a reason; Ada; 2027", "  # ; Ada; until 2999-01-01"]
)
def test_a_looser_limit_without_reason_owner_and_last_day_is_refused(gate: Path, line: str, comment: str) -> None:
    gate.write_text(f"# Limits.\n{line}{comment}\n")
    with pytest.raises(
        ParamsError, match=rf"params/gate.yml:2: {line.partition(':')[0]} is .* looser than the default"
    ):
        params.layers("local", None)


def test_a_looser_limit_counts_until_its_last_day_and_is_refused_after_it(gate: Path) -> None:
    for day in (TOMORROW, TODAY):
        gate.write_text(f"holdout_min_roc_auc: 0.7  # few rows; Ada; until {day}\n")
        assert params.layers("local", None)["holdout_min_roc_auc"] == 0.7
    gate.write_text(f"holdout_min_roc_auc: 0.7  # few rows; Ada; until {YESTERDAY}\n")
    with pytest.raises(ParamsError, match="which has passed. Remove the line, or let Ada decide on a new day"):
        params.layers("local", None)


def test_runbook_check_refuses_a_limit_whose_last_day_has_passed(gate: Path) -> None:
    gate.write_text(f"holdout_min_roc_auc: 0.7  # few rows; Ada; until {YESTERDAY}\n")
    assert any("which has passed" in problem for problem in notebooks.everything())


def test_a_stricter_limit_needs_no_reason(gate: Path) -> None:
    gate.write_text("holdout_min_roc_auc: 0.85\nmargin_log_loss: 0.01\n")
    assert params.layers("local", None)["margin_log_loss"] == 0.01
    assert params.given(EVALUATE, "local", None, (), ()) == []


def test_a_value_that_is_no_limit_is_refused(gate: Path) -> None:
    gate.write_text("bootstrap_resamples: 200\n")
    with pytest.raises(ParamsError, match="bootstrap_resamples is not a limit"):
        params.layers("local", None)


def test_a_looser_limit_is_shown_with_its_reason_among_the_changed_values(gate: Path) -> None:
    gate.write_text(f"holdout_min_roc_auc: 0.7  # few rows; Ada; until {TOMORROW}\n")
    (shown,) = params.given(EVALUATE, "local", None, (), ())
    assert (shown.name, shown.value, shown.plain) == ("holdout_min_roc_auc", 0.7, 0.8)
    assert shown.source == f"params/gate.yml: few rows; Ada; until {TOMORROW}"


def test_plain_papermill_takes_the_file(gate: Path, tmp_path: Path) -> None:
    for text in (gate.read_text(), f"holdout_min_roc_auc: 0.7  # few rows; Ada; until {TOMORROW}\n"):
        gate.write_text(text)
        out = tmp_path / "out.ipynb"
        command = [sys.executable, "-m", "papermill", "--prepare-only", "--no-progress-bar"]
        done = subprocess.run([*command, str(EVALUATE), str(out), "-f", str(gate)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("holdout_min_roc_auc = 0.7" in out.read_text()) is bool(yaml.safe_load(text))
