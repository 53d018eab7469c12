from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from runbook import paths
from runbook.lint.azure_pipelines import problems
from runbook.lint.azure_pipelines.job_rules import GROUPS
from runbook.lint.azure_pipelines.language import AT, load
from runbook.lint.azure_pipelines.tasks import WANTED, jobs

PIPELINES = sorted(p.relative_to(paths.ROOT).as_posix() for p in (paths.ROOT / "pipelines").rglob("*.yml"))


NAME = str(yaml.safe_load((paths.PARAMS / "base.yml").read_text(encoding="utf-8"))["project"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Returns a copy of the pipelines beside the real notebooks and set-up, for a test to break."""
    shutil.copytree(paths.ROOT / "pipelines", tmp_path / "pipelines")
    for folder in ("notebooks", "environment_setup", "deployment"):
        (tmp_path / folder).symlink_to(paths.ROOT / folder)
    return tmp_path


def replace(root: Path, file: str, old: str, new: str) -> None:
    path = root / "pipelines" / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{file} no longer holds {old!r}: mend this test"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_pipelines_keep_every_rule() -> None:
    assert problems(paths.ROOT) == []


def steps_of(file: str) -> list[tuple[int, int]]:
    """Return the first and last line, from zero, of every step written in one file."""

    def search(node: yaml.Node, inside: bool) -> list[tuple[int, int]]:
        if isinstance(node, yaml.MappingNode):
            within = [(key.value == "steps" or key.value.startswith("${{"), value) for key, value in node.value]
            return [found for steps, value in within for found in search(value, steps)]
        if isinstance(node, yaml.SequenceNode):
            own = [(n.start_mark.line, n.end_mark.line) for n in node.value if inside]
            return own + [found for n in node.value for found in search(n, False)]
        return []

    document = yaml.compose((paths.ROOT / file).read_text(encoding="utf-8"))
    assert document is not None, f"{file} is empty"
    return search(document, False)


STEPS = [(file, *lines) for file in PIPELINES for lines in steps_of(file)]


@pytest.mark.parametrize(("file", "first", "last"), STEPS, ids=[f"{file}:{first + 1}" for file, first, _ in STEPS])
def test_removing_any_one_step_from_the_yaml_is_noticed(root: Path, file: str, first: int, last: int) -> None:
    lines = (root / file).read_text(encoding="utf-8").splitlines(keepends=True)
    (root / file).write_text("".join(lines[:first] + lines[last:]), encoding="utf-8")
    assert [p for p in problems(root) if "is missing" in p or "runs " in p], "".join(lines[first:last])


# The article's tasks, and a piece of what stands for each in the table of wanted tasks.
ARTICLE = {
    **{f"CI {n}": "ci.yml train" for n in range(1, 11)},
    **{f"CD {n}": "cd.yml prod deploy" for n in range(1, 5)},
    "section 5.1": "cd.yml prod deploy",
    "section 5.2": "cd.yml prod deploy",
}


@pytest.mark.parametrize("task", ARTICLE)
def test_every_task_of_the_article_is_wanted_and_documented(task: str) -> None:
    word = re.compile(rf"\b{re.escape(task)}\b")
    assert [t for t in WANTED[ARTICLE[task]] if word.search(t.name)]
    page = (paths.ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| {re.escape(task)}\b", page, re.MULTILINE)


# file, what stands there, what a careless edit makes of it, and a piece of the complaint.
BROKEN = [
    ("templates/step.yml", "timeoutInMinutes: ${{ parameters.minutes }}", "enabled: true", "has no timeoutInMinutes"),
    ("ci.yml", "    timeoutInMinutes: 240\n", "", "ci.yml train has no timeoutInMinutes"),
    ("ci.yml", "    cancelTimeoutInMinutes: 60 ", "    # ", "has no cancelTimeoutInMinutes"),
    (
        "ci.yml",
        "{step: 20_train, minutes",
        "{step: 20_trian, minutes",
        "notebooks/20_trian.ipynb is not in the repository",
    ),
    ("ci.yml", "step: 20_train, ", "step: 40_register, ", "expected 10_create_compute 20_train"),
    ("ci.yml", "step: 20_train, minutes: 90", "step: 20_train, minuets: 90", "parameter minuets is given"),
    ("ci.yml", "step: 20_train, minutes: 90", "step: 20_train", "parameter minutes is missing"),
    ("ci.yml", "templates/step.yml  ", "templates/stpe.yml  ", "template templates/stpe.yml is not there"),
    (
        "ci.yml",
        ", condition: always()}",
        "}",
        "papermill 49_delete_compute has condition succeeded(), expected always()",
    ),
    ("templates/reports.yml", "  condition: always()\n", "", "expected always()"),
    ("templates/step.yml", "  inputs:", "  continueOnError: true\n  inputs:", "has continueOnError"),
    (
        "ci.yml",
        "    timeoutInMinutes: 240",
        "    continueOnError: true\n    timeoutInMinutes: 240",
        "has continueOnError",
    ),
    ("ci.yml", "  dependsOn: check", "  dependsOn: chekc", "depends on stage chekc"),
    ("ci.yml", "not(failed()), ", "", "train runs for BatchedCI after failed stages"),
    ("ci.yml", ", ne(variables['Build.Reason'], 'PullRequest')", "", "train runs for PullRequest"),
    ("ci.yml", "or(eq(variables['Build.Reason'], 'PullRequest'), ", "and(succeeded(), ", "check does not run"),
    ("ci.yml", "not(canceled())", "not(cancelled())", "'cancelled' is not known"),
    ("ci.yml", "    include: [main]", "    include: [release]", "trigger is"),
    ("ci.yml", "pr:  ", "schedules:  ", "pr is"),
    (
        "ci.yml",
        "targetPath: $(Build.ArtifactStagingDirectory)",
        "targetPath: $(Pipeline.Workspace)",
        "all of $(Pipeline.Workspace)",
    ),
    (
        "ci.yml",
        "artifact: titanic_pred_artifact",
        "artifact: titanic_artifact",
        "artifact titanic_pred_artifact is fetched but nobody",
    ),
    ("ci.yml", "          deployment/**\n", "", "Stage sources (CI 8) is missing"),
    ("cd.yml", "trigger: none  ", "trigger: [main]  ", "trigger is"),
    ("cd.yml", "pr: none", "pr: [main]", "pr is"),
    ("cd.yml", "        include: [main]", "        exclude: [main]", "CI's end on main does not start CD"),
    ("cd.yml", "lockBehavior: sequential", "lockBehavior: runLatest", "expected sequential"),
    ("cd.yml", "dependsOn: [dev]", "dependsOn: []", "expected dev, then prod that depends on dev"),
    (
        "cd.yml",
        "    stage: prod",
        "    stage: production",
        "parameter stage is 'production', expected one of dev, prod",
    ),
    ("cd.yml", "  - pipeline: ci", "  - pipeline: build", "pipeline ci is not among the resources"),
    ("cd.yml", f"group: {NAME} ", f"group: {NAME}k ", f"group {NAME}k is not known"),
    (
        "templates/release.yml",
        f"environment: {NAME}-",
        "environment: t-",
        f"expected a deployment job on {NAME}-dev",
    ),
    ("templates/release.yml", "- deployment: release", "- deployment: deploy", "a keyword"),
    (
        "templates/release.yml",
        "        on:\n          failure:",
        "        on:\n          success:",
        "there is no 'cd.yml dev on.failure'",
    ),
    (
        "templates/release.yml",
        "step: 95_rollback\n                m",
        "step: 90_release\n                m",
        "expected 95_rollback",
    ),
    ("templates/release.yml", "condition: canceled()", "condition: failed()", "expected canceled(): no hook covers it"),
    ("templates/release.yml", "condition: canceled()", "condition: always()", "expected canceled(): no hook covers it"),
    ("templates/release.yml", "cancelTimeoutInMinutes: 60", "cancelTimeoutInMinutes: 30", "may need 51 minutes"),
    ("ci.yml", "cancelTimeoutInMinutes: 60", "cancelTimeoutInMinutes: 50", "may need 51 minutes after a cancellation"),
    (
        "templates/release.yml",
        " -p only_release_of=$(Build.BuildId)",
        ' --from "x"',
        "expected --from in deploy and nowhere",
    ),
    ("templates/release.yml", "name: rollback-", "name: reports-", "is published twice"),
    (
        "templates/release.yml",
        "arguments: --stage ${{ parameters.stage }} --from",
        "arguments: --from",
        "--stage in CD",
    ),
    (
        "templates/release.yml",
        ' --from "$(Pipeline.Workspace)/ci/titanic_pred_artifact"',
        "",
        "expected --from in deploy",
    ),
    (
        "templates/release.yml",
        " -p only_release_of=$(Build.BuildId)",
        "",
        "expected -p only_release_of=$(Build.BuildId)",
    ),
    (
        "templates/release.yml",
        "displayName: Fetch CI's artifact",
        "displayName: x\n            continueOnError: true",
        "has continueOnError",
    ),
    (
        "templates/step.yml",
        "displayName: papermill ${{",
        "displayName: run ${{",
        "expected 'papermill 10_create_compute'",
    ),
    ("templates/step.yml", "inlineScript: .venv", "inlineScript: sleep 1 && .venv", "expected the line"),
    ("templates/step.yml", " --run-id $(Build.BuildId)", "", "has no --run-id"),
    ("templates/step.yml", "parameters.minutes", "parameters.minuets", "parameter 'minuets' is not declared"),
    ("templates/step.yml", "$(target)", "$(traget)", "$(traget) is not defined"),
    ("templates/step.yml", "--target $(target)", "--target $(ml.workspace)", "$(ml.workspace) stands outside env:"),
    (
        "templates/step.yml",
        "inlineScript: .venv/bin/runbook step",
        "inlineScript: .venv/bin/runbook step $(tls-private-key)",
        "$(tls-private-key) stands outside env:",
    ),
    (
        "templates/connect.yml",
        ".venv/bin/python -c",
        "echo $SYSTEM_ACCESSTOKEN; .venv/bin/python -c",
        "may show SYSTEM_ACCESSTOKEN",
    ),
    ("templates/connect.yml", ".venv/bin/python -c", "set -x; .venv/bin/python -c", "may show SYSTEM_ACCESSTOKEN"),
    ("templates/connect.yml", ".venv/bin/python -c", "env | sort; .venv/bin/python -c", "may show SYSTEM_ACCESSTOKEN"),
    (
        "templates/prepare.yml",
        "bash: environment_setup/install-requirements.sh",
        "bash: environment_setup/install.sh",
        "environment_setup/install.sh is not in",
    ),
    (
        "templates/tests.yml",
        "pipelines/coverage.ini",
        "pipelines/cover.ini",
        "pipelines/cover.ini is not in the repository",
    ),
    ("templates/tests.yml", "steps:", "steps: {", "expected YAML, correct this line"),
    (
        "templates/tests.yml",
        "  timeoutInMinutes: 10",
        "  timeoutInMinutes: 10\n  timeoutInMinutes: 11",
        "twice in one mapping",
    ),
    ("templates/tests.yml", "steps:", "extras: []\nsteps:", "expected parameters and one of"),
    ("templates/release.yml", "${{ if eq(", "${{ if startsWith(", "'startsWith' is not known"),
    (
        "templates/release.yml",
        "${{ if eq(parameters.stage, 'prod') }}",
        "${{ each x in parameters.stages }}",
        "expected 'if'",
    ),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"), BROKEN, ids=[f"{n}-{b[3][:40]}" for n, b in enumerate(BROKEN)]
)
def test_a_broken_rule_is_found_and_named_with_its_place(
    root: Path, file: str, old: str, new: str, complaint: str
) -> None:
    replace(root, file, old, new)
    found = [p for p in problems(root) if complaint in p]
    assert found, "\n".join(problems(root)) or "no problem at all"
    assert all(re.match(r"pipelines/[\w/.-]+\.yml:\d+: ", p) for p in problems(root))


def test_every_step_that_runs_has_been_removed_once(root: Path) -> None:
    written = {f"{file}:{first + 1}" for file, first, _ in STEPS}
    pipelines = [load(root, f"pipelines/{file}") for file in ("ci.yml", "cd.yml")]
    run = {
        step[AT]
        for n, file in enumerate(("ci.yml", "cd.yml"))
        for job in jobs(file, pipelines[n])
        for step in job.steps
    }
    assert run <= written


def test_a_missing_pipeline_is_one_clear_problem(root: Path) -> None:
    (root / "pipelines" / "cd.yml").unlink()
    assert problems(root) == [
        "pipelines/cd.yml:1: there is no such file, expected a pipeline or template, correct the name."
    ]


def test_every_variable_of_a_group_is_documented() -> None:
    page = (paths.ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    for group, names in ((f"titanic{suffix}", names) for suffix, names in GROUPS.items()):
        assert f"`{group}`" in page
        assert [name for name in names if f"`{name}`" not in page] == []
