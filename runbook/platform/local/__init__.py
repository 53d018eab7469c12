"""The local target: real parts on this machine, driven by the same YAML files as Azure ML."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook import paths
from runbook.errors import PlatformError
from runbook.platform import base, files
from runbook.platform.base import Change, Cluster, Compute, Keys, ModelVersion, Stage
from runbook.platform.local import cluster, compute, endpoint, registry, state_dir, teardown, tracking
from runbook.platform.local.haproxy import binary
from runbook.platform.local.teardown import DeploymentStatus, EndpointStatus

__all__ = ["DeploymentStatus", "EndpointStatus", "LocalPlatform"]


class LocalPlatform:
    """This machine as a target; its state is the folder runbook.repository.home()."""

    target: str = "local"
    remote: bool = False

    def __init__(self) -> None:
        self.home = state_dir.open_home(paths.home())
        self.names = files.names()

    def binding(self) -> Mapping[str, str]:
        """Return the home as the workspace, this machine as its resource group, the parts' versions, what is not enforced."""
        try:
            router = binary.find()[1]
        except PlatformError as error:
            router = f"missing: {error.args[0]}"
        server, client = "azureml-inference-server-http", "mlflow-skinny"
        return {
            "target": self.target,
            "workspace": str(self.home.path),
            "resource_group": platform.node() or "this machine",
            "tracking and registry": f"MLflow {importlib.metadata.version(client)} on SQLite",
            "scoring server": f"{server} {importlib.metadata.version(server)}",
            "router": f"HAProxy {router}",
            "python": platform.python_version(),
            "not enforced here": "cpu and memory limits, images, node pools",
        }

    def secrets(self) -> list[str]:
        """Return both keys of every endpoint."""
        return endpoint.secret_values(self.home)

    @property
    def longest_wait(self) -> float:
        """The seconds that one verb waits at most for this home's processes."""
        return endpoint.longest_wait()

    def create_compute(self, name: str) -> Change[Compute]:
        """Check this machine against environment_setup/compute.yml and record it as ``name``."""
        return compute.create(self.home, name)

    def find_compute(self, name: str) -> Compute | None:
        """Return the recorded compute target, or None."""
        return compute.find(self.home, name)

    def delete_compute(self, name: str) -> Change[None]:
        """Forget the compute target; one that is not ours is refused with PlatformError."""
        return compute.delete(self.home, name)

    def run_step(self, step: str, run_id: str, arguments: list[str], into: Path) -> Change[Any] | None:
        """Return None: this machine is the compute, so the runner runs the notebook itself."""
        return None

    def tracking_uri(self) -> str:
        """Return the URI of the MLflow store, and make this process keep artifacts below the home."""
        return tracking.tracking_uri(self.home)

    def register_model(
        self, name: str, source: str, digest: str, description: str, tags: Mapping[str, str]
    ) -> Change[ModelVersion]:
        """Make a version exist for what a training logged at ``source``; same source, same version."""
        return registry.register(self.home, name, source, digest, description, tags)

    def find_model(self, name: str, version: str | None = None, alias: str | None = None) -> ModelVersion | None:
        """Return one version by number or alias (neither: the newest), or None."""
        return registry.find(self.home, name, version, alias)

    def download_model(self, name: str, version: str, into: Path) -> Path:
        """Download a version below ``into``, check its digest, and return its model.onnx."""
        return registry.download(self.home, name, version, into)

    def promote_model(self, name: str, version: str) -> Change[ModelVersion]:
        """Move the alias champion to ``version``."""
        return registry.promote(self.home, name, version)

    def demote_model(self, name: str) -> Change[None]:
        """Take the alias champion from whoever has it."""
        return registry.demote(self.home, name)

    def create_cluster(self) -> Change[Cluster]:
        """Check that the prod replicas fit this machine, and record environment_setup/cluster.yml."""
        return cluster.create(self.home)

    def install_extension(self) -> Change[str]:
        """Change nothing: the controller serves without an extension."""
        return Change("local: the controller serves without an extension", {}, False, "ready")

    def create_namespace(self) -> Change[str]:
        """Change nothing: endpoints of this home need no namespace."""
        return Change("local: endpoints need no namespace here", {}, False, "ready")

    def attach_cluster(self) -> Change[Cluster]:
        """Change nothing: this machine is the cluster; raises NotFound while it is not recorded."""
        return cluster.attach(self.home)

    def find_cluster(self) -> Cluster | None:
        """Return the recorded cluster, or None."""
        return cluster.find(self.home)

    def detach_cluster(self) -> Change[str]:
        """Change nothing: this machine is the cluster."""
        return Change("local: nothing to detach", {}, False, "detached")

    def delete_cluster(self) -> Change[None]:
        """Forget the cluster; refused while the prod endpoint exists."""
        return cluster.delete(self.home)

    def create_endpoint(self, stage: Stage) -> Change[base.Endpoint]:
        """Make the endpoint of deployment/<stage>/endpoint.yml exist and answer on a port of 127.0.0.1."""
        return endpoint.create(self.home, stage)

    def find_endpoint(self, stage: Stage) -> base.Endpoint | None:
        """Return the endpoint as it is now, or None; what has died is started again first."""
        return endpoint.find(self.home, stage)

    def deploy(self, stage: Stage, name: str, model: ModelVersion) -> Change[base.Deployment]:
        """Make the deployment serve ``model`` by deployment/<stage>/deployment.yml, and wait until it is ready."""
        return endpoint.deploy(self.home, stage, name, model)

    def set_traffic(self, stage: Stage, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Change[base.Endpoint]:
        """Make the traffic percentages and these tags so, in one move."""
        return endpoint.set_traffic(self.home, stage, traffic, tags)

    def delete_deployment(self, stage: Stage, name: str) -> Change[None]:
        """Make the deployment not exist; one with traffic is refused."""
        return endpoint.delete_deployment(self.home, stage, name)

    def delete_endpoint(self, stage: Stage) -> Change[None]:
        """Make the endpoint and its deployments not exist."""
        return endpoint.delete(self.home, stage)

    def keys(self, stage: Stage) -> Keys:
        """Return the endpoint's keys."""
        return endpoint.stage_keys(self.home, stage)

    def logs(self, stage: Stage, name: str, lines: int = 50) -> str:
        """Return the last lines that the replicas of a deployment wrote."""
        return endpoint.log(self.home, stage, name, lines)

    def replica_history(self, stage: Stage, name: str, since: float) -> list[tuple[float, int, int]] | None:
        """Return (unix time, expected, ready) since ``since``, beginning with what held then."""
        return endpoint.history(self.home, stage, name, since)

    def down(self) -> list[str]:
        """End every process of this home, keep its state, and return what was ended; the next verb revives endpoints."""
        return teardown.down(self.home)

    def status(self) -> list[EndpointStatus]:
        """Return what lives now; starts nothing."""
        return teardown.status(self.home)
