"""CI, then CD, with the azure target against the stand-in: the same pipelines, signed in as a service connection is.

Only a task with the service connection is aimed at the stand-in; pip and git reach what they reach on this machine. The
stand-in's README says what it does not prove about Azure.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure_standin import azurite
from azure_standin.standin import KNOWN, StandIn
from emulator.issuer import ASSERTION, CONNECTION, Issuer
from emulator.service import commit
from organisation import Organisation, decision, said, set_up

from runbook import paths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

GROUP = {
    "ml.subscriptionId": "AZURE_SUBSCRIPTION_ID",
    "ml.resourceGroup": "AZURE_RESOURCE_GROUP",
    "ml.workspace": "AZURE_ML_WORKSPACE",
}


@dataclass
class Cloud:
    """An organisation, the stand-in it releases to, and who signs its tasks in."""

    organisation: Organisation
    standin: StandIn
    issuer: Issuer


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if reason := azurite.missing():
        pytest.skip(reason)
    with StandIn() as standin, Issuer() as issuer:
        shell = standin.environment()
        signed_in = {k: v for k, v in shell.items() if not k.startswith("AZURE_")}
        signed_in |= {
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": CONNECTION,
            "AZURESUBSCRIPTION_CLIENT_ID": shell["AZURE_CLIENT_ID"],
            "AZURESUBSCRIPTION_TENANT_ID": shell["AZURE_TENANT_ID"],
        }
        workspace = {name: shell[variable] for name, variable in GROUP.items()}
        folder = tmp_path_factory.mktemp("organisation-on-azure")
        oidc = {"System.OidcRequestUri": issuer.address}
        with set_up(folder, "azure", workspace, signed_in, shell, **oidc) as organisation:
            yield Cloud(organisation, standin, issuer)


def computes(cloud: Cloud) -> list[str]:
    found = cloud.standin.state.resources
    return [path for path, body in found.items() if body.get("properties", {}).get("computeType") == "AmlCompute"]


def test_a_first_push_goes_from_data_to_two_live_endpoints(cloud: Cloud) -> None:
    ci, cd = cloud.organisation.push("first")
    assert (ci.result, ci.stages) == ("Succeeded", {"check": "Skipped", "train": "Succeeded"}), ci.log()
    assert cd is not None and cd.result == "Succeeded", cd and cd.log()
    assert cd.stages == {"dev": "Succeeded", "prod": "Succeeded"}
    assert decision(ci) == "promote"
    assert {cloud.organisation.endpoint(stage)["model_version"] for stage in ("dev", "prod")} == {"1"}
    assert cloud.standin.sent("PUT", "/computes/") and computes(cloud) == []
    # Who released stands there in the very request that moves the traffic, or the hook could not tell.
    bodies = [exchange.sent for exchange in cloud.standin.sent("PUT", "/onlineEndpoints/[^/]+$")]
    moves = [body for body in bodies if 100 in (body["properties"].get("traffic") or {}).values()]
    assert [move["tags"]["released_by"] for move in moves] == [str(cd.number)] * 2
    # Nobody may take a rehearsal for Azure itself.
    page = (cd.artifacts["reports-prod-1"] / "90_release-prod" / "report.html").read_text()
    assert "REHEARSAL" in page


def test_a_failing_training_on_the_compute_still_deletes_the_compute(cloud: Cloud) -> None:
    cloud.organisation.insert("20_train", "parameters", "raise ValueError('broken by a test')")
    ci, cd = cloud.organisation.push("break the training")
    cloud.organisation.restore("notebooks/20_train.ipynb")
    assert (ci.result, cd) == ("Failed", None)
    assert ci.results("train")["papermill 20_train"] == "Failed"
    assert ci.results("train")["papermill 49_delete_compute"] == "Succeeded", ci.log()
    assert computes(cloud) == []
    assert "broken by a test" in (ci.artifacts["reports-ci-1"] / "20_train" / "report.html").read_text()


def test_a_release_that_dies_in_prod_is_rolled_back_by_the_hook(cloud: Cloud) -> None:
    before = cloud.organisation.traffic("prod")
    cloud.organisation.die_in_the_middle_of_the_release_to_prod()
    ci, cd = cloud.organisation.push("die in the middle of a release")
    cloud.organisation.restore("deployment/score.py", "notebooks/90_release.ipynb")
    assert ci.result == "Succeeded" and decision(ci) == "hold", ci.log()
    assert cd is not None and cd.stages == {"dev": "Succeeded", "prod": "Failed"}, cd and cd.log()
    assert cd.results("prod")["papermill 90_release"] == "Failed"
    assert cd.results("prod on.failure")["papermill 95_rollback"] == "Succeeded", cd.log()
    assert said(cd, "rollback-prod-1", "95_rollback-prod")["rolled_back"] is True
    assert cloud.organisation.traffic("prod") == before


def test_the_lines_for_other_services_work_word_for_word(cloud: Cloud, tmp_path: Path) -> None:
    page = (paths.ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in page.splitlines() if line.startswith("    environment_setup/install")]
    assert len(lines) == 3
    service, clone = cloud.organisation.service, tmp_path / "clone"
    commit(service.repository, "mended")
    subprocess.run(["git", "clone", "--quiet", str(service.repository), str(clone)], check=True, timeout=60)
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    bare = {**service.machine, "PATH": path, "HOME": str(tmp_path), "BUILD": "7", "ARTIFACT": "reports/7"}
    # The stand-in is no package registry, so what the lines begin with has been done before they are aimed at it.
    install = [str(clone / "environment_setup" / "install-requirements.sh")]
    subprocess.run(install, check=True, env=bare, timeout=600)
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=clone,
            env={**bare, **cloud.standin.environment()},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (clone / "reports" / "7-undo" / "95_rollback-prod" / "report.html").is_file()


def test_every_step_was_signed_in_by_the_connection_and_asked_only_for_azure(cloud: Cloud) -> None:
    signed_in = [
        step
        for run in cloud.organisation.runs
        for job in run.jobs.values()
        for step in job.steps
        if step.name.startswith(("papermill", "Sign in")) and step.result != "Skipped"
    ]
    assert len(signed_in) >= 25
    assert len(cloud.issuer.answered) >= len(signed_in) and set(cloud.issuer.answered) == {200}
    assert cloud.standin.unexpected() == set()
    assert [v for v in cloud.standin.violations if v not in KNOWN] == []


def test_no_secret_is_in_any_log_or_report_of_these_runs(cloud: Cloud) -> None:
    cloud.organisation.assert_nothing_published_shows(ASSERTION)
