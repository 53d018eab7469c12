"""Small notebooks for the tests of the reports, and how they are really run: by the runner itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from pages import SCRIPT
from recorded import HEX

from runbook import paths
from runbook.engine import step
from runbook.engine.event_log import EventLog
from runbook.engine.masking import Mask
from runbook.engine.step import Limits, Result, Step

PARAMETERS = """target: str = "local"  # where things happen, local|azure
stage: str = "dev"  # what is released to, dev|prod
run_id: str = "interactive"  # the run this step belongs to
"""
ABOUT = """| | |
|---|---|
| **Changes** | {changes} |
| **Needs** | [30_evaluate](30_evaluate.ipynb) has decided |
| **Takes** | seconds here, about ten minutes on Azure |
| **Checks** | what was asked is what stands there |
| **Undo** | [95_rollback](95_rollback.ipynb) |"""

CHECK = "from runbook.check import check, not_needed, summary"
FIGURE = """# Draw the calibration curve
#| fig-alt: The observed share of survivors follows the diagonal from 0.1 to 0.9
#| fig-cap: Calibration on the training set. Dashed: perfect calibration.
from matplotlib import pyplot as plt
figure, axes = plt.subplots(figsize=(6, 3.4), dpi=110)
axes.plot([0, 1], [0, 1], linestyle="--")
axes.plot([0.1, 0.3, 0.5, 0.7, 0.9], [0.08, 0.31, 0.55, 0.68, 0.93], marker="o")
axes.set(xlabel="predicted probability", ylabel="observed share")
plt.close(figure)
figure"""
TABLE = """# Compare the models by cross-validation
import pandas as pd
models = ["logistic regression", "random forest", "gradient boosting", "women live"]
pd.DataFrame({"log loss": [0.4312, 0.4203, 0.4251, 0.5214], "accuracy": [0.81, 0.83, 0.82, 0.787]}, index=models)"""
WIDE = """# Show what each column adds, a wide table
pd.DataFrame({f"contribution_{n:02d}": [0.1 * n, -0.2 * n, 0.3] for n in range(16)})"""
LOG = """# Score in batches
import sys
print("\\033[32mINFO\\033[0m scoring 183 rows\\n\\033[33mWARNING\\033[0m 37 rows have no age")
print("a library's warning", file=sys.stderr)"""
CHANGE = """# Make the slot serve this version, and wait until it is ready
from runbook.platform.base import Change
body = {"name": "green", "model": "azureml:Titanic:12", "environment_variables": {"MODEL_VERSION": "12"}}
Change("online_deployments.begin_create_or_update(deployment)", body, True, None)"""
HOLDS = """# Check that the deployment is ready
check("the deployment is ready", found="ready", wanted="ready")
check("traffic is what it was", found={"blue": 100}, wanted={"blue": 100})"""
MEASURED = """# Check the limits
check("latency p95, ms", found=38.4, at_most=150.0)
check("failed requests, %", found=0.0, at_most=0.1)
check("replicas at peak", found=5, at_least=4, needed=stage == "prod")"""
TOO_SLOW = MEASURED.replace("found=38.4", "found=412.7")
CHECKED = """# Check the candidate
check("log loss, cross-validated", found=0.42034, at_most=0.445)
check("rows whose verdict flips", found=0, wanted=0)"""
NOTHING_TO_DO = """# Say why there is nothing to do
check("the tested version still stands", found="11", wanted="11")
check("the champion is what prod serves", found="11", wanted="11", needed=False)
not_needed("this deployment was live before: no traffic to move")"""
MANY_ROWS = """# Show every request
import pandas as pd
pd.set_option("display.max_rows", None)
pd.DataFrame({"request": range(3_000), "sent": ["a request as it was sent, with some words"] * 3_000})"""
HOSTILE = f"""# Show what others wrote {SCRIPT}
#| fig-alt: "><script>alert(2)</script>
from IPython.display import HTML, Markdown, display
display(HTML('<table onclick="x()"><tr><td>kept {SCRIPT}</td></tr></table><iframe src="https://example.org"></iframe>'))
display(HTML('<p class="verdict failed" id="failed">Failed</p><img src="https://example.org/x.png"><!-- {SCRIPT} -->'))
display(HTML('<a class="anchor-link" href="javascript:alert(3)">press</a><form action="https://example.org"><input></form>'))
display(Markdown('{SCRIPT} <a href="vbscript:x">press</a> ![remote](https://example.org/y.png)'))
display({{"application/javascript": "alert(4)", "text/plain": "a script's text"}}, raw=True)
print('{SCRIPT} \\x1b[38;5;28mgreen\\x1b[0m \\x00 \\ud800'.encode('utf-8', 'replace').decode())
check('name {SCRIPT}', found='{SCRIPT}', wanted='{SCRIPT}')"""
STEPS = {
    "20_train": ("Train the model", TABLE, WIDE, LOG, FIGURE, CHECKED),
    "60_deploy": ("Deploy the model", "## 1. Deploy\n\nInto the free slot.", CHANGE, HOLDS),
    "80_stress_test": (
        "Stress it",
        "## 1. Load\n\nSent.",
        TOO_SLOW,
        "## 2. Leave\n\nNot reached.",
        "# Leave it\n1",
    ),
    "30_evaluate": ("Evaluate it", '# Break\nraise RuntimeError("the registry answered 503\\nand its log says more")'),
    "40_register": ("Register it", "# Kill the kernel\nimport os\nos._exit(3)", "# Never reached\n1"),
    "90_release": ("Release it", NOTHING_TO_DO),
    "70_functional_test": (f"Test it {SCRIPT}", HOSTILE, f'# Break\nraise ValueError("{SCRIPT}")'),
    "10_create_compute": (
        "Write much",
        "# Write a lot\nprint('line of a log\\n' * 40_000)",
        MANY_ROWS,
        CHECKED,
    ),
}


@contextmanager
def executed(folder: Path, run_id: str) -> Iterator[Path]:
    """Run every notebook of STEPS once, in ``folder``; reports go there as long as the context lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNBOOK_REPORTS", str(folder))
        patch.setattr(paths, "NOTEBOOKS", folder / "notebooks")
        for name, (title, *cells) in STEPS.items():
            notebook(name, title, *cells)
            execute(name, None, run_id)
        yield folder / run_id


def notebook(name: str, title: str, *cells: str, changes: str = "nothing", note: str = "") -> Path:
    """Write a notebook with the anatomy of a step; a cell that begins with "## " or "> " is prose, the rest is code."""
    prose = f"# {title}\n\n{note or 'A step as the runbook has them, made small for a test.'}\n\n{ABOUT.format(changes=changes)}"
    made = [
        nbformat.v4.new_markdown_cell(prose, id="title"),
        nbformat.v4.new_markdown_cell(
            "## Parameters\n\nValues come from the files of `params/`.", id="parameters-note"
        ),
        nbformat.v4.new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_markdown_cell("## Setup\n\nWhat this step imports.", id="setup"),
        nbformat.v4.new_code_cell(f"# Import the checks\n{CHECK}", id="imports"),
    ]
    for number, source in enumerate(cells, 1):
        new = nbformat.v4.new_markdown_cell if source.startswith(("## ", "> ")) else nbformat.v4.new_code_cell
        made.append(new(source.removeprefix("> "), id=f"cell-{number}"))
    made.append(nbformat.v4.new_markdown_cell("## Summary\n\nEvery check of this step.", id="summary-note"))
    made.append(nbformat.v4.new_code_cell("# Show every check of this step\nsummary()", id="summary"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = paths.NOTEBOOKS / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
    return path


def execute(name: str, stage: str | None, run_id: str, cell_seconds: float = 60) -> Result:
    """Run a notebook as the runner does; leaves executed.ipynb and result.json in the step's folder."""
    mask = Mask()
    log = EventLog(paths.run_folder(run_id) / "events.jsonl", run_id, mask)
    limits = Limits(cell_seconds, time.monotonic() + 120)
    given = {"target": "local", "run_id": run_id, **({"stage": stage} if stage else {})}
    return step.run(Step(name, stage), "local", run_id, given, {"notebook": HEX}, limits, log, mask, lambda *_: None)
