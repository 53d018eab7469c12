from __future__ import annotations

import sys
from pathlib import Path

import pytest
from emulator.records import Run, UnknownConstruct
from emulator.service import Service, commit

from runbook.errors import AnatomyError

CI = """
trigger: {branches: {include: [main]}}
parameters:
- {name: word, type: string, default: hello}
variables:
- group: place
- {name: greeting, value: '${{ parameters.word }} from $(room)'}
stages:
- stage: build
  jobs:
  - job: build
    steps:
    - checkout: self
STEPS
- stage: after
  jobs:
  - job: after
    steps:
    - bash: test ! -e ../from-the-first-job && test ! -e made-by-a-step
"""
CD = """
trigger: none
resources:
  pipelines:
  - {pipeline: ci, source: The CI, trigger: {branches: {include: [main]}}}
parameters: []
stages:
- stage: dev
  jobs:
  - deployment: release
    environment: the-dev
    strategy:
      runOnce:
        deploy:
          steps:
          - download: ci
            artifact: made
          - bash: SCRIPT
          - bash: 'echo shown > ../s.md; echo "##vso[task.uploadsummary]$(Pipeline.Workspace)/s.md"'
            condition: always()
        on:
          failure:
            steps:
            - bash: echo undone
- stage: prod
  jobs:
  - deployment: release
    environment: the-prod
    strategy:
      runOnce:
        deploy:
          steps:
          - download: none
"""


def service(tmp_path: Path, steps: str, cd_script: str = "cat ../ci/made/word") -> Service:
    repository = tmp_path / "repository"
    (repository / "pipelines").mkdir(parents=True)
    (repository / "pipelines" / "ci.yml").write_text(
        CI.replace("STEPS", "\n".join(f"    {line}" for line in steps.strip().splitlines()))
    )
    (repository / "pipelines" / "cd.yml").write_text(CD.replace("SCRIPT", cd_script))
    (repository / "word").write_text("committed")
    names = {"pipelines/ci.yml": "The CI", "pipelines/cd.yml": "The CD"}
    groups = {"place": {"room": "the kitchen"}}
    # Committing twice proves that a run takes the newest commit, not the first.
    commit(repository, "first")
    (repository / "word").write_text("committed later")
    commit(repository, "second")
    return Service(
        repository, tmp_path / "service", names, groups, {"azure": {"AZURESUBSCRIPTION_CLIENT_ID": "a-client"}}
    )


def ci(tmp_path: Path, steps: str, **parameters: str) -> Run:
    return service(tmp_path, steps).start("pipelines/ci.yml", "BatchedCI", parameters)


def test_a_job_works_on_a_fresh_clone_of_the_newest_commit_and_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    run = ci(tmp_path, "- bash: cat word; git status --porcelain; touch made-by-a-step ../from-the-first-job")
    assert run.result == "Succeeded", run.log()
    assert "committed later" in run.jobs["build"].steps[1].log


def test_variables_reach_scripts_as_text_and_as_environment(tmp_path: Path) -> None:
    run = ci(tmp_path, '- bash: echo "[$(greeting)] [$GREETING] [$(unknown 2>/dev/null)]"', word="good day")
    assert "[good day from the kitchen] [good day from the kitchen] []" in run.jobs["build"].steps[1].log


def test_a_step_sees_nothing_of_the_test_s_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_THE_TEST", "leaked")
    run = ci(tmp_path, "- bash: env; ls -A ~")
    assert "leaked" not in run.jobs["build"].steps[1].log
    assert "TF_BUILD=True" in run.jobs["build"].steps[1].log
    assert str(Path.home()) + "\n" not in run.jobs["build"].steps[1].log


def test_after_a_failure_only_steps_that_ask_for_it_run(tmp_path: Path) -> None:
    run = ci(
        tmp_path,
        """
- {bash: exit 3, displayName: breaks}
- {bash: echo no, displayName: waits for success}
- {bash: echo yes, displayName: always, condition: always()}
- {bash: echo yes, displayName: failed, condition: failed()}
- {bash: echo no, displayName: both, condition: 'and(succeeded(), eq(variables[''Build.Reason''], ''BatchedCI''))'}
""",
    )
    wanted = {
        "breaks": "Failed",
        "waits for success": "Skipped",
        "always": "Succeeded",
        "failed": "Succeeded",
        "both": "Skipped",
    }
    assert {k: v for k, v in run.results("build").items() if k in wanted} == wanted
    assert (run.result, run.stages) == ("Failed", {"build": "Failed", "after": "Skipped"})


def test_bash_goes_on_after_a_failing_line_as_the_service_does(tmp_path: Path) -> None:
    assert ci(tmp_path, "- bash: |\n    false\n    echo done").result == "Succeeded"


def test_a_step_that_may_fail_leaves_the_run_green_with_issues(tmp_path: Path) -> None:
    run = ci(tmp_path, "- {bash: exit 1, continueOnError: true}\n- {bash: echo on, displayName: next}")
    assert (run.result, run.results("build")["next"]) == ("SucceededWithIssues", "Succeeded")


def test_a_step_beyond_its_deadline_is_ended_and_red(tmp_path: Path) -> None:
    run = ci(tmp_path, "- {bash: sleep 60, timeoutInMinutes: '0.02', displayName: slow}")
    assert run.results("build")["slow"] == "Failed"
    assert "timed out" in run.jobs["build"].step("slow").log
    assert run.jobs["build"].step("slow").seconds < 20


def test_a_secret_is_given_by_env_only_and_masked_in_the_log(tmp_path: Path) -> None:
    run = ci(tmp_path, '- bash: echo "<$TOKEN> <$SYSTEM_ACCESSTOKEN>"\n  env: {TOKEN: $(System.AccessToken)}')
    assert "<***> <>" in run.jobs["build"].steps[1].log


def test_logging_commands_reach_the_run(tmp_path: Path) -> None:
    run = ci(
        tmp_path,
        """
- bash: |
    echo "##vso[task.setvariable variable=later]from the step before"
    echo "##vso[task.logissue type=error]it broke"
    echo "plain ##vso[not.a.command]"
- {bash: 'echo "$(later)"', displayName: reads}
- {bash: 'echo "##vso[task.complete result=SucceededWithIssues]"', displayName: doubts}
""",
    )
    assert "from the step before" in run.jobs["build"].step("reads").log
    assert run.issues == [("error", "it broke")]
    assert run.results("build")["doubts"] == "SucceededWithIssues"


def test_a_summary_that_is_not_there_is_red(tmp_path: Path) -> None:
    run = ci(
        tmp_path, "- {bash: 'echo \"##vso[task.uploadsummary]$(Agent.TempDirectory)/none.md\"', displayName: shows}"
    )
    assert run.results("build")["shows"] == "Failed"


@pytest.mark.parametrize(
    "step",
    [
        "{pwsh: Get-Date}",
        "{bash: 'true', retryCountOnTaskFailure: '2'}",
        "{task: Maven@4, inputs: {goals: package}}",
        "{task: CopyFiles@2, inputs: {SourceFolder: x, Contents: '**', TargetFolder: y, CleanTargetFolder: 'true'}}",
        "{task: CopyFiles@2, inputs: {SourceFolder: x, Contents: '[ab]', TargetFolder: y}}",
        "{checkout: none}",
        "{bash: 'echo \"##vso[artifact.upload artifactname=x]y\"'}",
        "{bash: 'echo \"##vso[task.setvariable variable=x;isOutput=true]y\"'}",
        "{template: elsewhere.yml@other}",
    ],
)
def test_what_the_emulator_does_not_know_is_refused(tmp_path: Path, step: str) -> None:
    with pytest.raises((UnknownConstruct, AnatomyError)):
        ci(tmp_path, f"- {step}")


@pytest.mark.parametrize(
    "condition",
    [
        "succeededOrFailed()",
        "startsWith(variables['a'], 'b')",
        "eq(dependencies.build.result, 'x')",
        "eq(1, 2",
        "and(true true) x",
    ],
)
def test_an_expression_that_is_not_known_is_refused(tmp_path: Path, condition: str) -> None:
    with pytest.raises(AnatomyError):
        ci(tmp_path, f"- {{bash: 'true', condition: \"{condition}\"}}")


def test_an_artifact_can_be_published_once_and_holds_what_was_staged(tmp_path: Path) -> None:
    publish = """
- task: PublishPipelineArtifact@1
  displayName: NAME
  inputs: {targetPath: $(Build.ArtifactStagingDirectory), artifact: made}
"""
    run = ci(
        tmp_path,
        f"""
- task: CopyFiles@2
  inputs: {{SourceFolder: $(Build.SourcesDirectory), Contents: 'wo*', TargetFolder: $(Build.ArtifactStagingDirectory)}}
{publish.replace("NAME", "first")}
{publish.replace("NAME", "second")}
""",
    )
    assert (run.results("build")["first"], run.results("build")["second"]) == ("Succeeded", "Failed")
    assert [p.name for p in run.artifacts["made"].iterdir()] == ["word"]


def test_files_are_staged_by_pattern_with_their_folders(tmp_path: Path) -> None:
    run = ci(
        tmp_path,
        """
- bash: mkdir -p a/b/cache && touch a/one a/b/two a/b/cache/three four cache
- task: CopyFiles@2
  inputs:
    SourceFolder: $(Build.SourcesDirectory)
    Contents: |
      a/**
      f*
      !**/cache/**
    TargetFolder: $(Build.ArtifactStagingDirectory)
- {bash: 'cd $(Build.ArtifactStagingDirectory) && find . -type f | sort | tr "\\n" " "', displayName: list}
""",
    )
    assert run.jobs["build"].step("list").log.strip() == "./a/b/two ./a/one ./four"


def test_test_results_are_counted_and_a_missing_file_is_red_when_asked(tmp_path: Path) -> None:
    task = """
- task: PublishTestResults@2
  displayName: FILE
  inputs:
    testResultsFormat: JUnit
    testResultsFiles: FILE
    searchFolder: $(Build.SourcesDirectory)
    testRunTitle: t
    failTaskOnMissingResultsFile: true
"""
    junit = '<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
    run = ci(
        tmp_path,
        f"- bash: echo '{junit}' > junit.xml\n{task.replace('FILE', 'junit.xml')}\n{task.replace('FILE', 'none.xml')}",
    )
    assert run.tests == {"t": (1, 1)}
    assert run.results("build")["none.xml"] == "Failed"


def test_the_cache_of_one_job_is_there_in_the_next_run_under_the_same_key_only(tmp_path: Path) -> None:
    steps = """
- {task: Cache@2, inputs: {key: 'a | word', path: $(Pipeline.Workspace)/.cache}}
- {bash: 'ls ../.cache; touch ../.cache/kept', displayName: looks}
"""
    this = service(tmp_path, steps)
    first, second = (this.start("pipelines/ci.yml", "BatchedCI", {}) for _ in range(2))
    assert "kept" not in first.jobs["build"].step("looks").log
    assert "kept" in second.jobs["build"].step("looks").log
    (this.repository / "word").write_text("another key")
    commit(this.repository, "third")
    assert "kept" not in this.start("pipelines/ci.yml", "BatchedCI", {}).jobs["build"].step("looks").log


def test_python_of_the_wanted_version_comes_first_and_a_missing_one_is_red(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    task = "- {task: UsePythonVersion@0, inputs: {versionSpec: 'VERSION'}, displayName: VERSION}\n"
    run = ci(
        tmp_path,
        task.replace("VERSION", version)
        + f"- {{bash: python{version} -V, displayName: says}}\n"
        + task.replace("VERSION", "2.99"),
    )
    assert f"Python {version}" in run.jobs["build"].step("says").log
    assert run.results("build")["2.99"] == "Failed"


def test_an_unknown_service_connection_is_red(tmp_path: Path) -> None:
    step = """
- task: AzureCLI@2
  displayName: NAME
  inputs:
    azureSubscription: NAME
    scriptType: bash
    scriptLocation: inlineScript
    inlineScript: echo $AZURESUBSCRIPTION_CLIENT_ID
"""
    run = ci(tmp_path, step.replace("NAME", "azure") + step.replace("NAME", "elsewhere"))
    assert run.results("build")["azure"] == "Succeeded"
    assert "a-client" in run.jobs["build"].step("azure").log
    assert run.results("build")["elsewhere"] == "Failed"


MADE = """
- task: CopyFiles@2
  inputs: {SourceFolder: $(Build.SourcesDirectory), Contents: word, TargetFolder: $(Build.ArtifactStagingDirectory)}
- task: PublishPipelineArtifact@1
  inputs: {targetPath: $(Build.ArtifactStagingDirectory), artifact: made}
"""


def test_cd_starts_when_ci_has_ended_well_with_ci_s_artifact_and_not_otherwise(tmp_path: Path) -> None:
    this = service(tmp_path, MADE + "- {bash: 'test -e allow', displayName: gate}")
    assert this.push({}).triggered == []
    (this.repository / "allow").touch()
    commit(this.repository, "allowed")
    green = this.push({})
    assert green.result == "Succeeded", green.log()
    (cd,) = green.triggered
    assert "committed later" in cd.jobs["dev"].steps[1].log
    assert cd.commit == green.commit


def test_a_failed_deployment_runs_its_hook_and_keeps_the_next_stage_from_starting(tmp_path: Path) -> None:
    (cd,) = service(tmp_path, MADE, cd_script="exit 1").push({}).triggered
    assert cd.stages == {"dev": "Failed", "prod": "Skipped"}
    assert "undone" in cd.jobs["dev on.failure"].steps[0].log
    assert "prod" not in cd.jobs


def test_a_cancelled_job_runs_only_what_asks_for_it_and_starts_no_hook_and_no_further_stage(tmp_path: Path) -> None:
    this = service(tmp_path, MADE, cd_script="echo halfway; sleep 60")
    steps = """
          - {bash: echo undone, displayName: undo, condition: canceled()}
          - {bash: echo no, displayName: waits for success}
        on:"""
    path = this.repository / "pipelines" / "cd.yml"
    path.write_text(path.read_text().replace("\n        on:", steps, 1))
    commit(this.repository, "undo when cancelled")
    this.cancel = ("dev", "halfway")
    (cd,) = this.push({}).triggered
    assert (cd.result, cd.stages) == ("Canceled", {"dev": "Canceled", "prod": "Skipped"})
    found = cd.results("dev")
    assert found["undo"] == "Succeeded" and found["waits for success"] == "Skipped", cd.log()
    assert "dev on.failure" not in cd.jobs


def test_an_approver_of_prod_can_read_the_summary_of_dev_and_say_no(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}

    def approve(environment: str, run: Run) -> bool:
        seen[environment] = list(run.summaries)
        return environment == "the-dev"

    this = service(tmp_path, MADE)
    this.approve = approve
    (cd,) = this.push({}).triggered
    assert seen == {"the-dev": [], "the-prod": ["shown\n"]}
    assert cd.stages == {"dev": "Succeeded", "prod": "Skipped"}
