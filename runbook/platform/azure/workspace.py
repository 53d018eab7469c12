"""The Azure ML workspace: its coordinates, its clients, and waiting with a deadline of our own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import side_channel
from runbook.errors import AnatomyError, ParamsError, PlatformError
from runbook.platform import files
from runbook.platform.azure import credentials
from runbook.platform.azure.diagnosis import explaining
from runbook.platform.base import OWNER_TAG

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential
    from azure.mgmt.containerservice import ContainerServiceClient

# Seconds each kind of operation may take, a few times what Azure's own documentation calls usual.
COMPUTE, JOB, ENDPOINT, DEPLOYMENT, CLUSTER, DELETION = 900.0, 7200.0, 900.0, 2700.0, 2700.0, 1800.0
# The longest that one verb waits. The runner waits for a job itself, so no cell has to last that long.
LONGEST = max(COMPUTE, ENDPOINT, DEPLOYMENT, CLUSTER, DELETION)


# A resource in one of these states takes changes.
SETTLED = ("ready", "failed", None)


def sdk() -> Any:
    """Return the module azure.ai.ml, imported now and silenced.

    It warns of its own experimental classes, of names it will not use, and prints a dot per poll: nothing of that helps
    whoever reads a report, and errors are raised anyway.
    """
    import azure.ai.ml

    for name in [n for n in logging.root.manager.loggerDict if n.startswith("azure")]:
        logging.getLogger(name).setLevel(logging.ERROR)
    return azure.ai.ml


def load(kind: str, path: Path, document: Mapping[str, Any], **overrides: Any) -> Any:
    """Return what azure-ai-ml's own loader makes of a YAML file (kind: compute, job, online_endpoint, online_deployment).

    ``document`` is the file as ``files`` reads it, under this project's names; what differs there overrides the file, and
    ``overrides`` override both. Raises AnatomyError when the file does not fit Azure ML's schema.
    """
    from azure.ai.ml.exceptions import ValidationException
    from marshmallow.exceptions import ValidationError

    written = files.read(path)
    named = {key: value for key, value in document.items() if written.get(key) != value}
    changes = [{key: value} for key, value in {**named, **overrides}.items()]
    try:
        return getattr(sdk(), f"load_{kind}")(path, params_override=changes)
    except (ValidationError, ValidationException, FileNotFoundError) as error:
        raise AnatomyError(f"{path} does not fit Azure ML's schema of a {kind}: {error}") from error


@dataclass(frozen=True)
class Coordinates:
    """Where the workspace is; nothing in here is secret."""

    subscription: str
    resource_group: str
    workspace: str

    @property
    def id(self) -> str:
        """The workspace's resource id."""
        return f"{self.group_id}/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"

    @property
    def group_id(self) -> str:
        """The resource group's id."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    def look(self, resource: str) -> str:
        """Return the command that shows how far a resource of the workspace is, for example of "compute show --name x"."""
        where = f"--resource-group {self.resource_group} --workspace-name {self.workspace}"
        return f"az ml {resource} {where} --query provisioning_state"

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Coordinates:
        """Return the coordinates from the environment, else params/azure.yml; raises ParamsError naming what is missing.

        Inside an Azure ML job the service names them itself (AZUREML_ARM_...).
        """
        names = {
            "AZURE_SUBSCRIPTION_ID": "AZUREML_ARM_SUBSCRIPTION",
            "AZURE_RESOURCE_GROUP": "AZUREML_ARM_RESOURCEGROUP",
            "AZURE_ML_WORKSPACE": "AZUREML_ARM_WORKSPACE_NAME",
        }
        file, keys = files.coordinates(), dict(zip(names, files.COORDINATES, strict=True))
        values = [environment.get(n) or environment.get(o) or file.get(keys[n], "") for n, o in names.items()]
        missing = [f"{keys[name]} ({name})" for name, value in zip(names, values, strict=True) if not value]
        if missing:
            raise ParamsError(
                f"The azure target needs {', '.join(missing)}: set it in params/azure.yml, or in the environment by the "
                "name in brackets. What exists: az ml workspace list --output table"
            )
        return cls(*values)


@dataclass(frozen=True)
class Workspace:
    """One workspace and what speaks to it; ``known_secrets`` grows with every key that is read."""

    at: Coordinates
    known_secrets: set[str] = field(default_factory=set, repr=False)

    @cached_property
    def credential(self) -> TokenCredential:
        """The credential that all clients share, so that its token cache is shared too."""
        return credentials.credential()

    @cached_property
    def ml(self) -> MLClient:
        """The Azure ML client; telemetry and progress bars are off, because a report must not carry either."""
        where = (self.at.subscription, self.at.resource_group, self.at.workspace)
        return sdk().MLClient(self.credential, *where, enable_telemetry=False, show_progress=False)

    @cached_property
    def aks(self) -> ContainerServiceClient:
        """The client of AKS."""
        from azure.mgmt.containerservice import ContainerServiceClient

        return ContainerServiceClient(self.credential, self.at.subscription)

    @cached_property
    def extensions(self) -> Any:
        """The client of cluster extensions."""
        from azure.mgmt.kubernetesconfiguration import SourceControlConfigurationClient

        return SourceControlConfigurationClient(self.credential, self.at.subscription, api_version="2023-05-01")

    def usages(self) -> list[dict[str, Any]]:
        """Return Azure's vCPU quotas of the region: name, currentValue, limit."""
        from azure.core.rest import HttpRequest
        from azure.mgmt.core import ARMPipelineClient
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        arm = "https://management.azure.com"
        policy = ARMChallengeAuthenticationPolicy(self.credential, f"{arm}/.default")
        path = f"/subscriptions/{self.at.subscription}/providers/Microsoft.Compute/locations/{self.location}/usages"
        with ARMPipelineClient(arm, policies=[policy]) as client:
            response = client.send_request(HttpRequest("GET", arm + path, params={"api-version": "2024-07-01"}))
            response.raise_for_status()
            rows: list[dict[str, Any]] = response.json()["value"]
        return rows

    @cached_property
    def location(self) -> str:
        """The workspace's region, for example eastus."""
        with explaining(f"reading the workspace {self.at.workspace}"):
            return str(self.ml.workspaces.get(self.at.workspace).location)


def wait(poller: Any, seconds: float, what: str, look: str) -> Any:
    """Wait for an operation and return its result; raises PlatformError when it is not done after ``seconds``.

    The SDK's own waits have no end. ``look`` is the command that shows how far the operation is. It goes on in Azure when
    the wait ends early, and the same verb called again waits for it (see ``settle``).
    """
    deadline = limit(seconds)
    with side_channel.waiting(what, look), _telling(poller, deadline, what):
        poller.wait(deadline)
    if not poller.done():
        raise PlatformError(_unfinished(what, deadline, poller.status(), look))
    return poller.result()


@contextmanager
def _telling(poller: Any, seconds: float, what: str) -> Iterator[None]:
    """Tell each change of an operation's state while the block waits for it, and once a minute that it goes on."""
    began, told, ended = time.monotonic(), Told(what), threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            told.state(str(poller.status()), time.monotonic() - began)

    side_channel.tell_progress(f"{what}: begun, takes at most {elapsed(seconds)}")
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    told.state(str(poller.status()), time.monotonic() - began)


class Told:
    """What was told of one operation, so that each state is told once, and then once a minute."""

    MINUTE = 60.0

    def __init__(self, what: str) -> None:
        self._what, self._state, self._next = what, "", self.MINUTE

    def state(self, state: str, passed: float) -> None:
        """Tell a state when it is new, or when a minute has gone by since the last word."""
        if state == self._state and passed < self._next:
            return
        side_channel.tell_progress(f"{self._what}: {state} after {elapsed(passed)}")
        self._state, self._next = state, passed + self.MINUTE


def elapsed(seconds: float) -> str:
    """Return seconds as minutes and seconds, for example 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def settle(state: Callable[[], str | None], seconds: float, what: str, look: str) -> float:
    """Wait until ``state`` is ready, failed or None (no such resource); returns the seconds that are left of ``seconds``.

    Azure refuses changes to a resource while an operation on it goes on, for example one that an interrupted step began.
    Raises PlatformError when it goes on for longer.
    """
    deadline = limit(seconds)
    ends, pause = time.monotonic() + deadline, 1.0
    if state() in SETTLED:
        return deadline
    with side_channel.waiting(f"an earlier operation on {what}", look):
        while (now := state()) not in SETTLED:
            left = ends - time.monotonic()
            if left <= 0:
                raise PlatformError(_unfinished(f"an earlier operation on {what}", deadline, now, look))
            time.sleep(min(pause, left))
            pause = min(15.0, pause * 1.5)
    return max(1.0, ends - time.monotonic())


def _unfinished(what: str, seconds: float, state: Any, look: str) -> str:
    return (
        f"{what} is not done after {seconds:.0f} s (it is {state!r}). It goes on in Azure.\n"
        f"Next: see how far it is: {look}\nThen run the step again: it waits for what goes on and takes what is there."
    )


def limit(seconds: float) -> float:
    """Return a deadline in seconds; $RUNBOOK_AZURE_DEADLINE lowers every deadline at once."""
    return min(seconds, float(os.environ.get("RUNBOOK_AZURE_DEADLINE") or seconds))


def word(value: Any) -> str:
    """Return a text or an enumeration's value as text; the SDK hands out both for the same field."""
    return str(getattr(value, "value", value))


def state_word(provisioning_state: Any) -> str:
    """Return the runbook's word for a resource's provisioning state: ready, failed, or Azure's own while it changes."""
    state = word(provisioning_state)
    return {"Succeeded": "ready", "Failed": "failed", "Canceled": "failed"}.get(state, state)


def state_of(resource: Any) -> str | None:
    """Return the runbook's word for the state of one of the SDK's resources; None when there is no resource or no state."""
    holder = resource if hasattr(resource, "provisioning_state") else getattr(resource, "properties", None)
    found = getattr(holder, "provisioning_state", None)
    return None if found is None else state_word(found)


def ours(tags: Mapping[str, str] | None) -> bool:
    """Whether a resource carries the tag of everything the runbook creates."""
    return bool(tags) and OWNER_TAG in (tags or {})


def body(entity: Any) -> dict[str, Any]:
    """Return one of the SDK's REST models as the JSON that is sent, whichever of its generators made the model."""
    if isinstance(entity, dict):
        return entity
    document: dict[str, Any] = entity.serialize() if hasattr(entity, "serialize") else entity.as_dict()
    return document
