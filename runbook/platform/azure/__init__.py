"""The azure platform: Azure Machine Learning and AKS, by the SDK's own calls; each room is a noun.

Nothing of the SDK is imported before the first verb needs it.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

from runbook.platform import files
from runbook.platform.azure import cluster, compute, credentials, endpoint, jobs, registry, tracking, workspace
from runbook.platform.azure.preview import bodies
from runbook.platform.azure.workspace import Coordinates, Workspace
from runbook.platform.base import Change, Cluster, Compute, Deployment, Endpoint, Keys, ModelVersion, Stage

__all__ = ["AzurePlatform", "bodies"]


class AzurePlatform:
    """One Azure ML workspace, named by params/azure.yml or the environment (see ``Coordinates``).

    Raises ParamsError when one of them is missing. Every verb raises PlatformError with a diagnosis and the next
    command; what Azure cannot tell (ready replicas and their history) is None.
    """

    target: str = "azure"
    remote: bool = True

    def __init__(self) -> None:
        self._at = Workspace(Coordinates.read())
        self.names = files.names()

    def binding(self) -> Mapping[str, str]:
        """Return workspace, resource group, subscription, who signs in, how requests reach prod, and the SDK's version."""
        at = self._at.at
        rehearsal = {"REHEARSAL": "against a stand-in; nothing of this happens on Azure"}
        return {
            **(rehearsal if os.environ.get("RUNBOOK_REHEARSAL") else {}),
            "target": self.target,
            "workspace": at.workspace,
            "resource_group": at.resource_group,
            "subscription": at.subscription,
            "signs in by": credentials.kind(),
            "requests to prod": cluster.tls(),
            "azure-ai-ml": importlib.metadata.version("azure-ai-ml"),
        }

    def secrets(self) -> list[str]:
        """Return the secrets of the environment and every endpoint key read so far."""
        return [*credentials.secrets(), *self._at.known_secrets]

    @property
    def longest_wait(self) -> float:
        """The seconds that one verb waits at most for Azure."""
        return workspace.limit(workspace.LONGEST)

    def create_compute(self, name: str) -> Change[Compute]:
        """Make the AmlCompute of environment_setup/compute.yml exist under ``name``."""
        return compute.create(self._at, name)

    def find_compute(self, name: str) -> Compute | None:
        """Return the compute target, or None."""
        return compute.find(self._at, name)

    def delete_compute(self, name: str) -> Change[None]:
        """Make the compute target not exist; one without our tag is refused."""
        return compute.delete(self._at, name)

    def run_step(self, step: str, run_id: str, arguments: list[str], into: Path) -> Change[jobs.Job]:
        """Run one step on the training compute as a command job; its folder comes home to ``into``, metadata beside it."""
        return jobs.run(self._at, step, run_id, arguments, into)

    def tracking_uri(self) -> str:
        """Return the MLflow store that travels with the training job (see ``tracking``)."""
        return tracking.uri()

    def register_model(
        self, name: str, source: str, digest: str, description: str, tags: Mapping[str, str]
    ) -> Change[ModelVersion]:
        """Make a version exist for what the job logged at ``source``; same source and digest, same version."""
        return registry.register(self._at, name, source, digest, description, tags)

    def find_model(self, name: str, version: str | None = None, alias: str | None = None) -> ModelVersion | None:
        """Return one version by number or alias, the newest when neither is given, or None."""
        return registry.find(self._at, name, version, alias)

    def download_model(self, name: str, version: str, into: Path) -> Path:
        """Download one version, check its digest, and return the path of model.onnx."""
        return registry.download(self._at, name, version, into)

    def promote_model(self, name: str, version: str) -> Change[ModelVersion]:
        """Move the champion's tag to ``version``."""
        return registry.promote(self._at, name, version)

    def demote_model(self, name: str) -> Change[None]:
        """Leave no version with the champion's tag."""
        return registry.demote(self._at, name)

    def create_cluster(self) -> Change[Cluster]:
        """Make the AKS cluster exist; of an existing one only the extension is looked for."""
        return cluster.create(self._at)

    def install_extension(self) -> Change[str]:
        """Make the AzureML extension stand on the cluster."""
        return cluster.install_extension(self._at)

    def create_namespace(self) -> Change[str]:
        """Make the namespace of the prod endpoint exist."""
        return cluster.create_namespace(self._at)

    def attach_cluster(self) -> Change[Cluster]:
        """Make the cluster a compute of the workspace."""
        return cluster.attach(self._at)

    def find_cluster(self) -> Cluster | None:
        """Return the cluster, or None."""
        return cluster.find(self._at)

    def detach_cluster(self) -> Change[str]:
        """Make the cluster no compute of the workspace."""
        return cluster.detach(self._at)

    def delete_cluster(self) -> Change[None]:
        """Delete the AKS cluster if it is ours."""
        return cluster.delete(self._at)

    def create_endpoint(self, stage: Stage) -> Change[Endpoint]:
        """Make the endpoint of deployment/<stage>/endpoint.yml exist."""
        return endpoint.create(self._at, stage)

    def find_endpoint(self, stage: Stage) -> Endpoint | None:
        """Return the endpoint as Azure sees it now, or None; inside a job, which has no rights here, always None."""
        return None if os.environ.get("AZUREML_RUN_ID") else endpoint.find(self._at, stage)

    def deploy(self, stage: Stage, name: str, model: ModelVersion) -> Change[Deployment]:
        """Make the deployment serve ``model``; wait until it is ready."""
        return endpoint.deploy(self._at, stage, name, model)

    def set_traffic(self, stage: Stage, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Change[Endpoint]:
        """Make traffic and tags so, in one request."""
        return endpoint.set_traffic(self._at, stage, traffic, tags)

    def delete_deployment(self, stage: Stage, name: str) -> Change[None]:
        """Make the deployment not exist; one with traffic is refused."""
        return endpoint.delete_deployment(self._at, stage, name)

    def delete_endpoint(self, stage: Stage) -> Change[None]:
        """Make the endpoint and its deployments not exist."""
        return endpoint.delete(self._at, stage)

    def keys(self, stage: Stage) -> Keys:
        """Return the endpoint's keys."""
        return endpoint.keys(self._at, stage)

    def logs(self, stage: Stage, name: str, lines: int = 50) -> str:
        """Return the last lines of a deployment's containers."""
        return endpoint.logs(self._at, stage, name, lines)

    def replica_history(self, stage: Stage, name: str, since: float) -> list[tuple[float, int, int]] | None:
        """Return None: Azure tells replicas only to whoever may read the cluster or Azure Monitor."""
        return None
