"""The protocol both platforms speak: about twenty verbs in the field's words, and what they return.

Every changing verb is "make it so": a second call changes nothing. Each returns a Change, which says whether anything
changed and shows what was sent. Every wait has a deadline; every failure is a PlatformError with the service's own log.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import yaml

from runbook import side_channel
from runbook.platform import files
from runbook.platform.files import Names

Stage = Literal["dev", "prod"]
Profile = Literal["managed", "kubernetes"]
DeploymentState = Literal["creating", "ready", "retrying", "failed"]
T = TypeVar("T")

OWNER_TAG = files.OWNER_TAG
CHAMPION = "champion"


@dataclass(frozen=True)
class Compute:
    """A named compute target for training."""

    name: str
    size: str
    state: str
    ours: bool
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """What prod endpoints run on; ``fits`` says how many replicas of the deployment it can hold."""

    name: str
    state: str
    ours: bool
    fits: int
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """One version in the registry; ``version`` is digits and compares as a number, ``digest`` is sha256 of model.onnx."""

    name: str
    version: str
    digest: str
    description: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Deployment:
    """One deployment of an endpoint; ``replicas`` is how many are ready, None where the platform cannot tell.

    A deployment that was ready and has too few replicas now is "retrying": they are started again,
    with longer and longer pauses, without end.
    """

    name: str
    model_name: str
    model_version: str
    model_digest: str
    code_digest: str
    state: DeploymentState
    replicas: int | None


@dataclass(frozen=True)
class Endpoint:
    """One endpoint; ``traffic`` is percent per deployment and sums to 0 or 100."""

    name: str
    stage: Stage
    profile: Profile
    scoring_uri: str
    traffic: Mapping[str, int]
    deployments: tuple[Deployment, ...]
    tags: Mapping[str, str]

    def deployment(self, name: str) -> Deployment | None:
        """Return the deployment of that name, or None."""
        return next((d for d in self.deployments if d.name == name), None)

    @property
    def live(self) -> Deployment | None:
        """The deployment with the largest share of traffic, or None while nobody is served."""
        name = max(self.traffic, key=lambda n: self.traffic[n], default="")
        return self.deployment(name) if self.traffic.get(name) else None

    def slot_for(self, model: ModelVersion) -> str:
        """Return where ``model`` belongs: the live deployment if it is already exactly that, else the slot without traffic."""
        live = self.live
        wanted = (model.version, model.digest, files.code_digest(self.stage))
        if live and (live.model_version, live.model_digest, live.code_digest) == wanted:
            return live.name
        return "green" if live and live.name == "blue" else "blue"


@dataclass(frozen=True)
class Keys:
    """The two keys of an endpoint; never shown, and told to the runner's mask as soon as they are known here."""

    primary: str = field(repr=False)
    secondary: str = field(repr=False)

    def __post_init__(self) -> None:
        side_channel.tell_secrets(self.primary, self.secondary)


@dataclass(frozen=True)
class Change(Generic[T]):
    """What a changing verb did: the call, the body it sent, whether anything changed, and the resulting state."""

    call: str
    sent: Mapping[str, Any]
    changed: bool
    result: T

    def __repr__(self) -> str:
        return f"{self.call}: {'changed' if self.changed else 'already so'}: {self.result!r}"

    def _repr_html_(self) -> str:
        body = (
            yaml.safe_dump(dict(self.sent), sort_keys=False, allow_unicode=True) if self.sent else "(nothing to send)"
        )
        return (
            f"<p><code>{html.escape(self.call)}</code>: {'changed' if self.changed else 'already so, nothing changed'}</p>"
            f"<details><summary>What was sent</summary><pre>{html.escape(body)}</pre></details>"
        )


class Platform(Protocol):
    """A target: everything a notebook may ask of the place where things happen."""

    target: str
    # Whether endpoints are on another machine. A load is sent there only when this is True.
    remote: bool
    names: Names

    def binding(self) -> Mapping[str, str]:
        """Return what this platform is bound to (home or workspace, versions), for the reader to recognise."""

    def secrets(self) -> list[str]:
        """Return every secret value this platform knows now, so that writers can mask it."""

    @property
    def longest_wait(self) -> float:
        """The seconds that one verb waits at most before it raises PlatformError; a cell calls one such verb."""

    # compute
    def create_compute(self, name: str) -> Change[Compute]:
        """Make the compute target of environment_setup/compute.yml exist under ``name``."""

    def find_compute(self, name: str) -> Compute | None:
        """Return the compute target, or None."""

    def delete_compute(self, name: str) -> Change[None]:
        """Make the compute target not exist; one that is not ours is refused with PlatformError."""

    # a step as a job
    def run_step(self, step: str, run_id: str, arguments: list[str], into: Path) -> Change[Any] | None:
        """Run one step on the training compute and bring its folder home to ``into``; None where this machine is the compute.

        Raises PlatformError with the job's log when the job fails; what evidence it left lies in ``into`` even then.
        """

    # tracking and registry
    def tracking_uri(self) -> str:
        """Return the MLflow tracking URI of this target, ready to be used."""

    def register_model(
        self, name: str, source: str, digest: str, description: str, tags: Mapping[str, str]
    ) -> Change[ModelVersion]:
        """Make a version of ``name`` exist for the model that a training logged at ``source``; same source, same version."""

    def find_model(self, name: str, version: str | None = None, alias: str | None = None) -> ModelVersion | None:
        """Return one version, by number or by alias (neither: the newest), or None."""

    def download_model(self, name: str, version: str, into: Path) -> Path:
        """Download one version below ``into``, check its digest, and return the path of model.onnx."""

    def promote_model(self, name: str, version: str) -> Change[ModelVersion]:
        """Move the alias champion to ``version``."""

    def demote_model(self, name: str) -> Change[None]:
        """Leave no version of ``name`` as champion: prod serves nobody any more."""

    # cluster
    def create_cluster(self) -> Change[Cluster]:
        """Make the cluster of environment_setup/cluster.yml exist; one that the file names as existing is left as it is."""

    def install_extension(self) -> Change[str]:
        """Make what serves endpoints stand on the cluster, and return its state ("ready")."""

    def create_namespace(self) -> Change[str]:
        """Make the namespace of prod's endpoint exist on the cluster, and return its state ("ready", "left to its owner")."""

    def attach_cluster(self) -> Change[Cluster]:
        """Make the cluster one that endpoints can name."""

    def find_cluster(self) -> Cluster | None:
        """Return the cluster, or None."""

    def detach_cluster(self) -> Change[str]:
        """Make the cluster one that no endpoint can name, and return its state ("detached")."""

    def delete_cluster(self) -> Change[None]:
        """Make the detached cluster not exist; one that we did not make keeps standing."""

    # endpoint
    def create_endpoint(self, stage: Stage) -> Change[Endpoint]:
        """Make the endpoint of deployment/<stage>/endpoint.yml exist, without traffic when it is new."""

    def find_endpoint(self, stage: Stage) -> Endpoint | None:
        """Return the endpoint as the service sees it now, or None."""

    def deploy(self, stage: Stage, name: str, model: ModelVersion) -> Change[Deployment]:
        """Make the deployment ``name`` (blue or green) serve ``model`` by deployment/<stage>/deployment.yml; wait until ready."""

    def set_traffic(self, stage: Stage, traffic: Mapping[str, int], tags: Mapping[str, str]) -> Change[Endpoint]:
        """Make the traffic percentages and these endpoint tags so, in one step."""

    def delete_deployment(self, stage: Stage, name: str) -> Change[None]:
        """Make the deployment not exist; one with traffic is refused."""

    def delete_endpoint(self, stage: Stage) -> Change[None]:
        """Make the endpoint and its deployments not exist."""

    def keys(self, stage: Stage) -> Keys:
        """Return the endpoint's keys."""

    def logs(self, stage: Stage, name: str, lines: int = 50) -> str:
        """Return the last lines of a deployment's own log."""

    def replica_history(self, stage: Stage, name: str, since: float) -> list[tuple[float, int, int]] | None:
        """Return (unix time, expected, ready) since ``since``, or None where the platform cannot tell."""
