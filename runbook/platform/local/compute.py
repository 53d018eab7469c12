"""The training compute: on this target it is this machine, checked and recorded under a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook.errors import PlatformError
from runbook.platform import files
from runbook.platform.base import OWNER_TAG, Change, Compute
from runbook.platform.local import machine, names, state_dir
from runbook.platform.local.state_dir import Home

# Below this the training does not fit: it holds the libraries, 900 rows and a few forests.
LEAST_CORES, LEAST_MEMORY_GIB, LEAST_DISK_GIB = 1.0, 2.0, 1.0


def create(of: Home, name: str) -> Change[Compute]:
    """Check this machine against environment_setup/compute.yml and record it; too small a one raises PlatformError."""
    document = {**files.compute(), "name": names.name("compute", name)}
    this = machine.measure(of.path)
    found = (("cores", this.cores, LEAST_CORES), ("GiB of memory", this.memory_gib, LEAST_MEMORY_GIB))
    for word, have, least in (*found, ("GiB of free disk", this.disk_gib, LEAST_DISK_GIB)):
        if have < least:
            raise PlatformError(f"This machine has {have:.1f} {word}, expected at least {least:.0f} to train on it.")
    record = {
        "name": name,
        "size": str(document.get("size", "")),
        "tags": document.get("tags") or {},
        "details": _details(str(document.get("size", "")), this),
    }
    path = _path(of, name)
    before = state_dir.read_json(path) if path.exists() else {}
    if before and OWNER_TAG not in before["tags"]:
        raise PlatformError(
            f"Compute {before['name']} has no tag {OWNER_TAG}: somebody else made it, and it is left alone."
        )
    # Free disk changes from call to call; it is refreshed, but it is no change of the target.
    changed = any(before.get(key) != record[key] for key in ("name", "size", "tags"))
    state_dir.write_json(path, record)
    return Change(f"local: record compute {name}", document, changed, _compute(record))


def find(of: Home, name: str) -> Compute | None:
    """Return the recorded compute target, or None."""
    path = _path(of, name)
    return _compute(state_dir.read_json(path)) if path.exists() else None


def delete(of: Home, name: str) -> Change[None]:
    """Forget a compute target; one without our tag is refused with PlatformError."""
    found = find(of, name)
    if found is not None and not found.ours:
        raise PlatformError(f"Compute {name} has no tag {OWNER_TAG}: somebody else made it, and it is left alone.")
    _path(of, name).unlink(missing_ok=True)
    return Change(f"local: forget compute {name}", {}, found is not None, None)


def _path(of: Home, name: str) -> Path:
    return of.path / "computes" / f"{names.name('compute', name)}.json"


def _compute(record: Mapping[str, Any]) -> Compute:
    return Compute(record["name"], record["size"], "ready", OWNER_TAG in record["tags"], record["details"])


def _details(size: str, this: machine.Machine) -> dict[str, str]:
    # Azure's general-purpose sizes have 4 GiB per vCPU; the number after D is the vCPUs.
    match = re.match(r"Standard_D(\d+)", size)
    theirs = f" ({size} has {match[1]} cores and {4 * int(match[1])} GiB)" if match else ""
    return {
        "where": "this machine",
        "cores": f"{this.cores:g}",
        "memory": f"{this.memory_gib:.1f} GiB{theirs}",
        "disk": f"{this.disk_gib:.1f} GiB free",
    }
