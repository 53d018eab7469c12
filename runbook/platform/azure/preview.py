"""Every request body the azure platform would send, made from the files alone: no workspace, no network, no sign-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from runbook import paths
from runbook.platform import files
from runbook.platform.azure import aks, cluster, compute, endpoint, jobs, registry
from runbook.platform.azure.workspace import Coordinates, Workspace, body, load
from runbook.platform.base import ModelVersion, Stage

# Stands where a run puts its own value.
SAMPLE = ModelVersion("model", "1", "0" * 64, "", {}, (), "")
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
_AT = Coordinates(SUBSCRIPTION, "RESOURCE_GROUP", "WORKSPACE")


def bodies(location: str = "REGION", model: ModelVersion = SAMPLE) -> dict[str, Any]:
    """Return the bodies by what they make, in the order of the steps; ``model`` is the version that would be deployed."""
    source = "azureml://jobs/JOB/outputs/artifacts/paths/outputs/model/"
    doc = files.cluster()
    cluster_id = cluster.resource_id(Workspace(_AT), doc)
    found: dict[str, Any] = {
        "10 compute": {"location": location, **body(compute.wanted(str(files.compute()["name"]))._to_rest_object())},
        "20 job": jobs.request(jobs.wanted("20_train", "RUN_ID", [], Path("SNAPSHOT"), "job-name")),
        "20 environment": _environment(paths.ENVIRONMENT_SETUP / "training-job.yml"),
        "40 model": body(registry.wanted(model.name, source, model.digest, "DESCRIPTION", {})._to_rest_object()),
        "50 cluster": aks.cluster(doc, location).as_dict(),
        "50 extension": body(aks.extension(doc, location, cluster_id)),
        "50 compute": {"location": location, **body(aks.compute(doc, cluster_id)._to_rest_object())},
    }
    for stage in get_args(Stage):
        deployment = endpoint.wanted_deployment(stage, "blue", model)
        found |= {
            f"60 endpoint {stage}": body(endpoint.wanted(stage)._to_rest_online_endpoint(location)),
            f"60 environment {stage}": body(deployment.environment._to_rest_object()),
            f"60 deployment {stage}": body(deployment._to_rest_object(location=location)),
            f"90 traffic {stage}": _traffic(stage, location),
        }
    return found


def _environment(job: Path) -> dict[str, Any]:
    return body(load("job", job, files.training_job()).environment._to_rest_object())


def _traffic(stage: Stage, location: str) -> dict[str, Any]:
    entity = endpoint.wanted(stage)
    entity.traffic = {"blue": 100}
    return body(entity._to_rest_online_endpoint(location))
