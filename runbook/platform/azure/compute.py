"""Room of the training compute: an AmlCompute from environment_setup/compute.yml."""

from __future__ import annotations

from typing import Any

from runbook import paths
from runbook.errors import NotFound, PlatformError
from runbook.platform import files
from runbook.platform.azure import workspace
from runbook.platform.azure.diagnosis import explaining
from runbook.platform.azure.workspace import Workspace, body, load, ours, settle, state_of, state_word, wait
from runbook.platform.base import OWNER_TAG, Change, Compute


def wanted(name: str) -> Any:
    """Return the AmlCompute that environment_setup/compute.yml describes, under ``name``."""
    return load("compute", paths.ENVIRONMENT_SETUP / "compute.yml", files.compute(), name=name)


def create(at: Workspace, name: str) -> Change[Compute]:
    """Make the compute target exist; a foreign one of that name is refused with PlatformError."""
    entity = wanted(name)
    sent = body(entity._to_rest_object())
    call = f"compute.begin_create_or_update({name})"
    look = at.at.look(f"compute show --name {name}")
    seconds = settle(lambda: state_of(_get(at, name)), workspace.COMPUTE, f"the compute target {name}", look)
    present = _get(at, name)
    if present is not None:
        if not ours(present.tags):
            raise PlatformError(_foreign(name, "created"))
        if present.provisioning_state == "Succeeded" and _same(present, entity):
            return Change(call, sent, changed=False, result=_compute(present))
    with explaining(f"creating the compute target {name}"):
        poller = at.ml.compute.begin_create_or_update(entity)
        made = wait(poller, seconds, f"creating the compute target {name}", look)
    return Change(call, sent, changed=True, result=_compute(made))


def find(at: Workspace, name: str) -> Compute | None:
    """Return the compute target as Azure sees it now, or None."""
    present = _get(at, name)
    return None if present is None else _compute(present)


def delete(at: Workspace, name: str) -> Change[None]:
    """Make the compute target not exist; one without our tag is refused with PlatformError."""
    call = f"compute.begin_delete({name})"
    look = at.at.look(f"compute show --name {name}")
    seconds = settle(lambda: state_of(_get(at, name)), workspace.DELETION, f"the compute target {name}", look)
    present = _get(at, name)
    if present is None:
        return Change(call, {}, changed=False, result=None)
    if not ours(present.tags):
        raise PlatformError(_foreign(name, "deleted"))
    with explaining(f"deleting the compute target {name}"):
        poller = at.ml.compute.begin_delete(name, action="Delete")
        wait(poller, seconds, f"deleting the compute target {name}", look)
    return Change(call, {"name": name, "underlyingResourceAction": "Delete"}, changed=True, result=None)


def _get(at: Workspace, name: str) -> Any | None:
    try:
        with explaining(f"reading the compute target {name}"):
            return at.ml.compute.get(name)
    except NotFound:
        return None


def _same(present: Any, entity: Any) -> bool:
    facts = ("min_instances", "max_instances", "idle_time_before_scale_down")
    same_size = str(present.size).upper() == str(entity.size).upper()
    return same_size and all(int(getattr(present, f)) == int(getattr(entity, f)) for f in facts)


def _compute(present: Any) -> Compute:
    facts = ("min_instances", "max_instances", "idle_time_before_scale_down")
    details = {f: str(int(getattr(present, f))) for f in facts if getattr(present, f, None) is not None}
    details |= {"location": str(present.location), "type": str(present.type)}
    size = str(getattr(present, "size", None) or "")
    return Compute(present.name, size, state_word(present.provisioning_state), ours(present.tags), details)


def _foreign(name: str, verb: str) -> str:
    return (
        f"The compute target {name} exists and does not carry the tag {OWNER_TAG}: somebody else made it, so it is not "
        f"{verb}.\nNext: choose another name with -p compute_name=NAME, or tag it if it is yours."
    )
