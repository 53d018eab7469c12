"""The static Azure ML v2 YAML files under deployment/ and environment_setup/, as both platforms read them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from runbook import paths, strict_yaml
from runbook.errors import AnatomyError

# Where an Azure ML workspace is; read by the platform itself, so that no notebook has to pass it on.
COORDINATES = ("subscription_id", "resource_group", "workspace")


def read(path: Path) -> dict[str, Any]:
    """Return one YAML mapping; raises AnatomyError when the file is missing or not a mapping."""
    if not path.exists():
        raise AnatomyError(f"{path} is missing: the platform reads it. Restore it with: git checkout -- {path}")
    document = strict_yaml.read(path, AnatomyError)
    if not isinstance(document, dict):
        raise AnatomyError(f"{path} holds {type(document).__name__}, wanted a mapping.")
    return document


def coordinates() -> dict[str, str]:
    """Return where the workspace is, as far as params/azure.yml says; raises AnatomyError for what is not text."""
    document = read(paths.PARAMS / "azure.yml")
    found = {name: document[name] for name in COORDINATES if document.get(name) is not None}
    for name, value in found.items():
        if not isinstance(value, str):
            raise AnatomyError(f"params/azure.yml: {name} is {value!r}, wanted text: quote it.")
    return found


def endpoint(stage: str) -> dict[str, Any]:
    """Return deployment/<stage>/endpoint.yml."""
    return read(paths.DEPLOYMENT / stage / "endpoint.yml")


def deployment(stage: str) -> dict[str, Any]:
    """Return deployment/<stage>/deployment.yml."""
    return read(paths.DEPLOYMENT / stage / "deployment.yml")


def compute() -> dict[str, Any]:
    """Return environment_setup/compute.yml."""
    return read(paths.ENVIRONMENT_SETUP / "compute.yml")


def cluster() -> dict[str, Any]:
    """Return environment_setup/cluster.yml."""
    return read(paths.ENVIRONMENT_SETUP / "cluster.yml")


def shipped(stage: str) -> list[Path]:
    """Return the files that make a deployment of this stage what it is, sorted by path."""
    folder = paths.DEPLOYMENT
    common = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    return sorted(common + [folder / stage / "endpoint.yml", folder / stage / "deployment.yml"])


def code_digest(stage: str) -> str:
    """Return sha256 over names and bytes of everything shipped to this stage: same digest, same deployment."""
    digest = hashlib.sha256()
    for path in shipped(stage):
        digest.update(str(path.relative_to(paths.DEPLOYMENT)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
