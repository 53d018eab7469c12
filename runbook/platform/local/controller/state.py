"""Holds the state of one endpoint in one JSON file that only its living controller writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec

from runbook import hint
from runbook.errors import PlatformError
from runbook.platform import base
from runbook.platform.base import Profile, Stage
from runbook.platform.local import state_dir
from runbook.platform.local.deployment_settings import Serving
from runbook.platform.local.process import Process

DeploymentState = Literal["creating", "ready", "failed"]


@dataclass(frozen=True)
class Replica:
    """One running scoring server; ``draining`` ones answer what they have and get nothing new."""

    id: str
    deployment: str
    revision: int
    process: Process
    socket: str
    state: Literal["starting", "ready", "draining"]


@dataclass(frozen=True)
class Deployment:
    """One deployment with everything needed to start another replica of it.

    ``state`` is "ready" once its replicas have been ready, and stays so whatever happens to them.
    ``revision`` tells the replicas of two deployments apart that had the same name one after the other; ``failure`` says
    what went wrong last.
    """

    name: str
    model_name: str
    model_version: str
    model_digest: str
    code_digest: str
    state: DeploymentState
    serving: Serving
    revision: int = 0
    failure: str = ""

    def same(self, other: Deployment) -> bool:
        """Tell whether both serve the same model version with the same code and settings."""
        mine, yours = ((d.model_name, d.model_version, d.model_digest, d.code_digest) for d in (self, other))
        return mine == yours


@dataclass(frozen=True)
class Endpoint:
    """One endpoint.

    ``home`` is where this was written, because a copied home must leave the original's processes alone. ``home_id`` is that
    home's id, because a deleted home may have a successor at the same place while its processes still live.
    """

    home: str
    name: str
    stage: Stage
    profile: Profile
    port: int
    tags: Mapping[str, str]
    traffic: Mapping[str, int] = field(default_factory=dict)
    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    replicas: Mapping[str, Replica] = field(default_factory=dict)
    controller: Process | None = None
    router: Process | None = None
    started: int = 0
    note: str = ""
    home_id: str = ""

    @property
    def prefix(self) -> str:
        """What stands before /score in the URI, by the profile of Azure's router that this endpoint reproduces."""
        return f"/api/v1/service/{self.name}" if self.profile == "kubernetes" else ""

    @property
    def scoring_uri(self) -> str:
        """The address clients post to."""
        return f"http://127.0.0.1:{self.port}{self.prefix}/score"

    def ready(self, name: str) -> list[Replica]:
        """Return the ready replicas of one deployment's current revision, oldest first."""
        this = self.deployments[name]
        return [
            r for r in self.replicas.values() if (r.deployment, r.revision, r.state) == (name, this.revision, "ready")
        ]

    def condition(self, name: str) -> base.DeploymentState:
        """Return the state of one deployment as people see it.

        A ready deployment is "retrying" while no replica is ready, or fewer than the least number
        because starts fail.
        """
        this, ready = self.deployments[name], len(self.ready(name))
        if this.state != "ready":
            return this.state
        short = ready < this.serving.least
        return "retrying" if not ready or (short and this.failure) else "ready"

    def public(self) -> base.Endpoint:
        """Return what a notebook sees of it."""
        return base.Endpoint(
            name=self.name,
            stage=self.stage,
            profile=self.profile,
            scoring_uri=self.scoring_uri,
            traffic=dict(self.traffic),
            deployments=tuple(self.public_deployment(name) for name in self.deployments),
            tags=dict(self.tags),
        )

    def public_deployment(self, name: str) -> base.Deployment:
        """Return what a notebook sees of one deployment."""
        this = self.deployments[name]
        return base.Deployment(
            name=name,
            model_name=this.model_name,
            model_version=this.model_version,
            model_digest=this.model_digest,
            code_digest=this.code_digest,
            state=self.condition(name),
            replicas=len(self.ready(name)),
        )


def path(of: state_dir.Home, name: str) -> Path:
    """Return the state file of one endpoint."""
    return of.endpoint(name) / "state.json"


def own(of: state_dir.Home, endpoint: Endpoint) -> Endpoint:
    """Return the state as this home may use it: in a copied home the processes belong to the original.

    A home that was moved takes its processes along, so that they can be ended.
    """
    # A state of an earlier release has no id.
    endpoint = replace(endpoint, home_id=endpoint.home_id or of.id)
    if endpoint.home == str(of.path) or not Path(endpoint.home).exists():
        return endpoint
    return replace(endpoint, home=str(of.path), replicas={}, router=None, controller=None)


def save(file: Path, endpoint: Endpoint) -> None:
    """Write the state in one move; raises PlatformError when the home it belongs to is no longer here.

    So the controller of a deleted home cannot write into the home that took its place.
    """
    version = file.parents[2] / state_dir.VERSION_FILE
    found = state_dir.read_json(version).get("id", "") if version.exists() else "none"
    if endpoint.home_id and endpoint.home_id != found:
        raise PlatformError(
            f"{file} belongs to the home with the id {endpoint.home_id}, which was deleted; found: {found}."
        )
    state_dir.write(file, msgspec.json.format(msgspec.json.encode(endpoint), indent=1))


def load(file: Path) -> Endpoint | None:
    """Return the state, or None when there is none; raises PlatformError when the file is damaged."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Endpoint)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise PlatformError(
            f"{file} is damaged ({error}). Run `{hint.line('down')}`, delete the folder {file.parent}, "
            "and deploy this stage again."
        ) from error
